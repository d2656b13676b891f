"""Lets a model held in bfloat16 or float16 compute in float32, a part of its weights at a time.

Widening a 16-bit weight is exact, so the results are those of the whole model in float32, at half
of the memory: what a proof on a small machine needs.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_NARROW = (torch.bfloat16, torch.float16)
_BLOCK_ELEMENTS = 1 << 22  # of a linear's weight that are wide at once: 16 MB


def compute_in_float32(model: nn.Module) -> nn.Module:
    """Make every module widen its own weights when it runs, in place. Returns `model`.

    Weights that are float32 already are left alone.
    """
    linears = [m for m in model.modules() if type(m) is nn.Linear and m.weight.dtype in _NARROW]
    wide = torch.empty(max([_BLOCK_ELEMENTS, *(linear.in_features for linear in linears)]))
    for module in model.modules():
        narrow = {
            name: parameter
            for name, parameter in module.named_parameters(recurse=False)
            if parameter.dtype in _NARROW
        }
        if not narrow:
            continue
        if type(module) is nn.Embedding:  # derived ones compute with what they look up
            module.register_forward_hook(lambda _module, _args, rows: rows.float())
        elif type(module) is nn.Linear:
            module.forward = partial(_linear, module, wide)  # type: ignore[method-assign]
        else:
            module.register_forward_pre_hook(_Widen(narrow))
            module.register_forward_hook(_Narrow(narrow), always_call=True)
    return model


def _linear(module: nn.Linear, wide: Tensor, x: Tensor) -> Tensor:
    """Multiply by some rows of the weight at a time, widened in `wide`: the weight of the head is
    most of a small model.

    All blocks and all modules share that one buffer. A buffer for each block would be freed
    between results that are kept, and the C allocator's heap grew by half a gigabyte of such gaps.
    """
    rows = len(wide) // module.in_features
    y = x.new_empty(*x.shape[:-1], module.out_features)
    for start in range(0, module.out_features, rows):
        block = slice(start, start + rows)
        narrow = module.weight[block]
        weight = wide[: narrow.numel()].view(narrow.shape).copy_(narrow)
        y[..., block] = F.linear(
            x, weight, None if module.bias is None else module.bias[block].float()
        )
    return y


class _Widen:
    """A hook before the forward pass that makes the module's own weights float32."""

    def __init__(self, narrow: dict[str, nn.Parameter]) -> None:
        self._narrow = narrow

    def __call__(self, module: nn.Module, _args: Any) -> None:
        for name, parameter in self._narrow.items():
            module._parameters[name] = nn.Parameter(parameter.float(), requires_grad=False)


class _Narrow:
    """A hook after it that puts the stored weights back."""

    def __init__(self, narrow: dict[str, nn.Parameter]) -> None:
        self._narrow = narrow

    def __call__(self, module: nn.Module, _args: Any, _output: Any) -> None:
        module._parameters.update(self._narrow)
