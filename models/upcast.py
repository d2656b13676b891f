"""Lets a model held in bfloat16 or float16 compute in float32, one module's weights at a time.

Widening a 16-bit weight is exact, so the results are those of the whole model in float32, at half
of the memory: what a proof on a small machine needs.
"""

from typing import Any

import torch
from torch import nn


def compute_in_float32(model: nn.Module) -> nn.Module:
    """Widen each module's own weights just before its forward pass and narrow them after, in place.

    Weights that are float32 already are left alone. Returns `model`.
    """
    for module in model.modules():
        narrow = {
            name: parameter
            for name, parameter in module.named_parameters(recurse=False)
            if parameter.dtype in (torch.bfloat16, torch.float16)
        }
        if narrow:
            module.register_forward_pre_hook(_Widen(narrow))
            module.register_forward_hook(_Narrow(narrow), always_call=True)
    return model


class _Widen:
    def __init__(self, narrow: dict[str, nn.Parameter]) -> None:
        self._narrow = narrow

    def __call__(self, module: nn.Module, _args: Any) -> None:
        for name, parameter in self._narrow.items():
            module._parameters[name] = nn.Parameter(parameter.float(), requires_grad=False)


class _Narrow:
    def __init__(self, narrow: dict[str, nn.Parameter]) -> None:
        self._narrow = narrow

    def __call__(self, module: nn.Module, _args: Any, _output: Any) -> None:
        module._parameters.update(self._narrow)
