"""Marks the hidden state after each decoder layer, so that the proof can compare layer by layer."""

from typing import Any

import torch
from torch import nn

from ingot.models.unsupported import unsupported


def find_decoder_layers(model: nn.Module, num_layers: int) -> nn.ModuleList:
    """The outermost ModuleList with one module for each layer of the configuration."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == num_layers:
            return module
    raise unsupported(f"no list of {num_layers} decoder layers in {type(model).__name__}")


def mark_layer_outputs(layers: nn.ModuleList) -> None:
    """Pass each layer's output hidden state through `ingot::layer_output`, in place."""

    def mark(index: int) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            marked = torch.ops.ingot.layer_output(hidden, index)
            return (marked, *output[1:]) if isinstance(output, tuple) else marked

        return hook

    for index, layer in enumerate(layers):
        layer.register_forward_hook(mark(index))
