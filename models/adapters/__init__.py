"""Families whose attention bypasses transformers' interface, by the exact `model_type`.

An adapter is a function that changes a built model in place, so that its attention calls
`ingot.models.attention.attention_interface`. Most families need none. Adding one is a file here and
its row in `_ADAPTERS`.
"""

from collections.abc import Callable
from importlib import import_module

from torch import nn

Adapter = Callable[[nn.Module], None]

# model_type -> module of this package with `adapt(model)`
_ADAPTERS = {
    "bloom": "bloom",
    "codegen": "unfused",
    "falcon": "falcon",
    "gpt_neo": "unfused",
    "gpt_neox_japanese": "unfused",
    "gptj": "unfused",
    "mpt": "mpt",
    "xglm": "xglm",
}


def find_adapter(model_type: str) -> Adapter | None:
    """The adapter of this `model_type`, imported when asked for."""
    name = _ADAPTERS.get(model_type)
    if name is None:
        return None
    adapt: Adapter = import_module(f"{__name__}.{name}").adapt
    return adapt
