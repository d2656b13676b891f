"""Builds a transformers model from its configuration alone: right shapes and dtypes, no weights."""

import inspect
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ingot.errors import UnsupportedModelError


def create_empty_model(config: Any, *, dtype: torch.dtype, trust_remote_code: bool = False) -> Any:
    """The causal language model of `config`, parameters on the `meta` device, buffers real.

    Buffers hold what the code computes from the configuration (RoPE frequencies, embedding scales);
    the export turns them into constants.
    """
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    with init_empty_weights(include_buffers=False):
        try:
            model: Any = AutoModelForCausalLM.from_config(
                config,
                dtype=dtype,
                attn_implementation="eager",
                trust_remote_code=trust_remote_code,
            )
        except ValueError as error:
            raise UnsupportedModelError(
                f"`{config.model_type}` is no causal language model: {error}".split("\n")[0],
                "Ingot compiles models that AutoModelForCausalLM can build.",
            ) from error
    model.tie_weights()
    return model.eval()


def fake_parameters(model: nn.Module) -> None:
    """Give every `meta` parameter a fake CPU tensor, in place: the export then sees one device."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fakes: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            if id(parameter) not in fakes:  # tied parameters stay one
                with mode:
                    empty = torch.empty(parameter.shape, dtype=parameter.dtype, device="cpu")
                fakes[id(parameter)] = nn.Parameter(empty, requires_grad=False)
            module._parameters[name] = fakes[id(parameter)]


def accepts(model: Any, argument: str) -> bool:
    """True when the model's forward names `argument`."""
    return argument in inspect.signature(model.forward).parameters
