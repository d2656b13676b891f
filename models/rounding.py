"""Makes a model compute with weights, inputs and a cache that are rounded, in float32 otherwise.

What is rounded and how is the caller's to say, a few rows of a matrix at a time, so that no second
copy of the weights is ever whole. Needs a model that computes in float32 (`upcast.py`).
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

NAME = "ingot-rounded"
"""Under this name transformers finds the attention that rounds queries."""

_BLOCK_ELEMENTS = 1 << 20  # of a matrix that are rounded at once


class Rounding(Protocol):
    """What each tensor becomes. A matrix goes by the name of its parameter."""

    def weight(self, name: str, rows: Tensor) -> Tensor:
        """Some rows of a matrix `[out, in]`, in float32."""

    def inputs(self, name: str, x: Tensor) -> Tensor:
        """What is multiplied with this matrix, `[..., in]`."""

    def cached(self, x: Tensor) -> Tensor:
        """Keys or values as the cache holds them."""

    def queries(self, query: Tensor, value_dim: int) -> Tensor:
        """Queries `[..., key_dim]` as they are multiplied with the cached keys."""

    def attention(self, weights: Tensor, key_dim: int, value_dim: int) -> Tensor:
        """Attention weights `[..., keys]`, in order of the keys, as they weigh the values."""


def round_matrices(model: nn.Module, rounding: Rounding) -> None:
    """Replace what linears and embeddings compute, in place and for good."""
    from transformers.pytorch_utils import Conv1D

    for path, module in model.named_modules():
        name = f"{path}.weight"
        if isinstance(module, nn.Linear):
            module.forward = partial(_linear, module, module.weight, name, rounding)  # type: ignore[method-assign]
        elif isinstance(module, Conv1D):
            module.forward = partial(_linear, module, module.weight.T, name, rounding)
        elif type(module) is nn.Embedding:
            module.forward = partial(_look_up, module, name, rounding)  # type: ignore[method-assign]
        elif isinstance(module, nn.Embedding):
            _RoundTable(module, name, rounding)


def _blocks(weight: Tensor) -> Iterator[slice]:
    rows = max(1, _BLOCK_ELEMENTS // weight.shape[1])
    for start in range(0, len(weight), rows):
        yield slice(start, start + rows)


def _linear(module: Any, weight: Tensor, name: str, rounding: Rounding, x: Tensor) -> Tensor:
    x = rounding.inputs(name, x)
    y = x.new_empty(*x.shape[:-1], len(weight))
    for block in _blocks(weight):
        y[..., block] = x @ rounding.weight(name, weight[block].float()).T
    if module.bias is not None:
        y += module.bias.float()
    return y


def _look_up(module: nn.Embedding, name: str, rounding: Rounding, ids: Tensor) -> Tensor:
    """Only the rows that are asked for are rounded."""
    rows, where = torch.unique(ids, return_inverse=True)
    return rounding.weight(name, module.weight[rows].float())[where]


class _RoundTable:
    """An embedding with code of its own gets the whole table rounded while it runs."""

    def __init__(self, module: nn.Embedding, name: str, rounding: Rounding) -> None:
        self._stored: Any = module.weight
        self._name, self._rounding = name, rounding
        module.register_forward_pre_hook(self._round)
        module.register_forward_hook(self._restore, always_call=True)

    def _round(self, module: nn.Module, _args: Any) -> None:
        table: Any = module._parameters["weight"]
        # A copy, unless the table was widened for this call and is a copy already.
        rounded = table.detach().clone() if table is self._stored else table.detach()
        for block in _blocks(rounded):
            rounded[block] = self._rounding.weight(self._name, rounded[block])
        module._parameters["weight"] = nn.Parameter(rounded, requires_grad=False)

    def _restore(self, module: nn.Module, _args: Any, _output: Any) -> None:
        module._parameters["weight"] = self._stored


# --- attention -----------------------------------------------------------------------------------

_current: ContextVar[Rounding | None] = ContextVar("ingot_rounding", default=None)


@contextmanager
def rounded_attention(model: Any, rounding: Rounding) -> Iterator[Any]:
    """Within, attention rounds queries, and what goes through the cache that this yields is
    rounded too: give it to each pass as its `past_key_values`.

    Models whose attention goes around transformers' interface keep their queries.
    """
    before = model.config._attn_implementation
    can_switch = before == "eager" and model._can_set_attn_implementation()
    if can_switch:
        _register()
        model.set_attn_implementation(NAME)
    token = _current.set(rounding)
    try:
        yield _rounded_cache(rounding)
    finally:
        _current.reset(token)
        if can_switch:
            model.set_attn_implementation(before)


def _rounded_cache(rounding: Rounding) -> Any:
    from transformers import DynamicCache

    class RoundedCache(DynamicCache):  # type: ignore[misc]
        def update(self, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Any:
            return super().update(rounding.cached(key), rounding.cached(value), *args, **options)

    return RoundedCache()


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any
) -> Any:
    """The eager attention of the model's own code, of rounded queries, with rounded weights."""
    rounding = _current.get()
    assert rounding is not None
    eager = sys.modules[type(module).__module__].eager_attention_forward
    key_dim, value_dim = query.shape[-1], value.shape[-1]
    query = rounding.queries(query, value_dim)
    with _AfterSoftmax(lambda weights: rounding.attention(weights, key_dim, value_dim)):
        return eager(module, query, key, value, *args, **options)


class _AfterSoftmax(TorchFunctionMode):
    """Within, a function is applied to the result of every softmax."""

    def __init__(self, apply: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._apply = apply

    def __torch_function__(
        self, function: Any, _types: Any, args: Any = (), options: Any = None
    ) -> Any:
        result = function(*args, **(options or {}))
        is_softmax = function in (nn.functional.softmax, torch.softmax, Tensor.softmax)
        return self._apply(result) if is_softmax else result


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, eager_mask)
