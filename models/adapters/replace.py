"""Replaces a method of every module of one class, which is how adapters reach into a model."""

from collections.abc import Callable
from types import MethodType
from typing import Any

from torch import Tensor, nn

from ingot.models.unsupported import unsupported


def replace_method(
    model: nn.Module, class_name: str, method: str, function: Callable[..., Any]
) -> list[nn.Module]:
    """Give each module of exactly this class `function` as its `method`; returns these modules."""
    found = [module for module in model.modules() if type(module).__name__ == class_name]
    if not found:
        raise unsupported(f"no {class_name} in {type(model).__name__}: its adapter expects one")
    for module in found:
        setattr(module, method, MethodType(function, module))
    return found


def set_slopes(modules: list[nn.Module], slopes: Tensor) -> None:
    """ALiBi slopes [H] as a buffer `ingot_slopes` of each module: a constant of the program."""
    for module in modules:
        module.register_buffer("ingot_slopes", slopes.clone().float(), persistent=False)
