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
            module.forward = partial(_linear, module)  # type: ignore[method-assign]
        else:
            module.register_forward_pre_hook(_Widen(narrow))
            module.register_forward_hook(_Narrow(narrow), always_call=True)
    return model


def _linear(module: nn.Linear, x: Tensor) -> Tensor:
    """Some rows of the weight at a time: a head's vocabulary is most of a small model."""
    rows = max(1, _BLOCK_ELEMENTS // module.in_features)
    blocks = [slice(start, start + rows) for start in range(0, module.out_features, rows)]
    return torch.cat(
        [
            F.linear(
                x,
                module.weight[block].float(),
                None if module.bias is None else module.bias[block].float(),
            )
            for block in blocks
        ],
        dim=-1,
    )


class _Widen:
    """Before a forward pass: all of the module's own weights as float32."""

    def __init__(self, narrow: dict[str, nn.Parameter]) -> None:
        self._narrow = narrow

    def __call__(self, module: nn.Module, _args: Any) -> None:
        for name, parameter in self._narrow.items():
            module._parameters[name] = nn.Parameter(parameter.float(), requires_grad=False)


class _Narrow:
    """After it: the stored ones again."""

    def __init__(self, narrow: dict[str, nn.Parameter]) -> None:
        self._narrow = narrow

    def __call__(self, module: nn.Module, _args: Any, _output: Any) -> None:
        module._parameters.update(self._narrow)
