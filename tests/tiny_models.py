"""A family's row to its tiny model in `transformers`, with random weights."""

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from ingot.models.eager import reference_attention
from ingot.models.families import FAMILIES, Family


def find_family(name: str) -> Family:
    """The row of this name."""
    return next(family for family in FAMILIES if family.name == name)


def create_tiny_model(family: Family, seed: int = 0) -> nn.Module:
    """The plain transformers model of a row with random float32 weights that make features matter.

    transformers' own initialisation is so small that attention is nearly uniform and a wrong window
    or softcap would hide in the rounding.
    """
    attention = reference_attention(family.model_type)
    model: nn.Module = AutoModelForCausalLM.from_config(
        family.config(), dtype=torch.float32, attn_implementation=attention
    ).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim < 2:  # norms keep their meaning, biases stop being zero
                parameter.add_(noise, alpha=0.1)
            else:
                parameter.copy_(noise * 1.5 * parameter.shape[-1] ** -0.5)
    return model
