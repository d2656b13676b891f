"""Refuses an exported graph in which tokens meet outside of Ingot's operators.

All sequences of a step lie in one row of tokens, and their past lies in the cache. An operator that
combines tokens on its own (a recurrence, a convolution, attention written by hand) would mix the
sequences and forget the past, and the logits would be wrong without an error.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from ingot.models.unsupported import unsupported_node

aten = torch.ops.aten


def _is_token_size(size: Any) -> bool:
    """Sizes that depend on the number of tokens are symbolic; every other one is a number."""
    return isinstance(size, torch.SymInt)


def _shape(node: Any) -> Sequence[Any]:
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return value.shape if isinstance(value, torch.Tensor) else ()


def _argument(node: fx.Node, position: int, default: Any) -> Any:
    return node.args[position] if len(node.args) > position else default


def _over(position: int, default: Any) -> Callable[[fx.Node], bool]:
    """The dimension(s) in this argument have a token size; None means all dimensions."""

    def check(node: fx.Node) -> bool:
        shape = _shape(node.args[0])
        dims = _argument(node, position, default)
        if dims is None or dims == []:
            dims = range(len(shape))
        elif isinstance(dims, int):
            dims = [dims]
        return any(_is_token_size(shape[dim]) for dim in dims)

    return check


def _contracts(first: int, second: int) -> Callable[[fx.Node], bool]:
    """A product that sums over tokens, or one of tokens with tokens."""

    def check(node: fx.Node) -> bool:
        left, right, out = _shape(node.args[first]), _shape(node.args[second]), _shape(node)
        batch = len(out) - 2 if len(right) > 2 else 0
        tokens_by_tokens = len(right) > 1 and all(_is_token_size(s) for s in out[-2:])
        shared_batch = any(_is_token_size(s) for s in out[:batch])
        return _is_token_size(left[-1]) or (tokens_by_tokens and not shared_batch)

    return check


def _changes_length(node: fx.Node) -> bool:
    """A slice that leaves out tokens."""
    dim = _argument(node, 1, 0)
    before, after = _shape(node.args[0])[dim], _shape(node)[dim]
    return _is_token_size(before) and not bool(before == after)


def _pads(node: fx.Node) -> bool:
    shape, padding = _shape(node.args[0]), list(node.args[1])  # type: ignore[arg-type]
    sides = [padding[i : i + 2] for i in range(0, len(padding), 2)]  # last dimension first
    return any(
        _is_token_size(size) and any(side)
        for size, side in zip(reversed(shape), sides, strict=False)
    )


def _joins(node: fx.Node) -> bool:
    tensors: Any = node.args[0]
    return _is_token_size(_shape(tensors[0])[_argument(node, 1, 0)])


def _picks(node: fx.Node) -> bool:
    """Rows picked by anything but the rows that want logits."""
    shape, indices = _shape(node.args[0]), node.args[1]
    assert isinstance(indices, (list, tuple))
    return any(
        index is not None
        and _is_token_size(size)
        and not (isinstance(index, fx.Node) and index.name == "logit_rows")
        for size, index in zip(shape, indices, strict=False)
    )


def _has_tokens(node: fx.Node) -> bool:
    return any(_is_token_size(size) for size in _shape(node))


_ALL = _over(99, None)
_MIXERS: dict[Any, Callable[[fx.Node], bool]] = {
    aten.sum.default: _ALL,
    aten.mean.default: _ALL,
    aten.max.default: _ALL,
    aten.min.default: _ALL,
    aten.amax.default: _over(1, None),
    aten.amin.default: _over(1, None),
    aten.argmax.default: _over(1, None),
    aten.sum.dim_IntList: _over(1, None),
    aten.mean.dim: _over(1, None),
    aten.var.correction: _over(1, None),
    aten.prod.dim_int: _over(1, None),
    aten.any.dim: _over(1, None),
    aten._softmax.default: _over(1, -1),
    aten._log_softmax.default: _over(1, -1),
    aten.cumsum.default: _over(1, 0),
    aten.cumprod.default: _over(1, 0),
    aten.logcumsumexp.default: _over(1, 0),
    aten.sort.default: _over(1, -1),
    aten.topk.default: _over(2, -1),
    aten.flip.default: _over(1, None),
    aten.roll.default: _over(2, None),
    aten.select.int: _over(1, 0),
    aten.slice.Tensor: _changes_length,
    aten.constant_pad_nd.default: _pads,
    aten.cat.default: _joins,
    aten.index.Tensor: _picks,
    aten.gather.default: _over(1, 0),
    aten.index_select.default: _over(1, 0),
    aten.mm.default: _contracts(0, 1),
    aten.bmm.default: _contracts(0, 1),
    aten.matmul.default: _contracts(0, 1),
    aten.addmm.default: _contracts(1, 2),
    aten.linear.default: _contracts(0, 1),
    aten.convolution.default: _has_tokens,
    aten.scatter.src: _has_tokens,
    aten.scatter_add.default: _has_tokens,
    aten.index_add.default: _has_tokens,
    aten.index_put.default: _has_tokens,
}


def check_tokens_stay_apart(graph: fx.Graph) -> None:
    """Raise UnsupportedModelError at the first operator that combines tokens or counts rows."""
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        if node.target in (aten.arange.default, aten.arange.start_step) and _has_tokens(node):
            raise unsupported_node(node, "positions counted from the start of the token row")
        mixes = _MIXERS.get(node.target)
        if mixes is not None and mixes(node):
            raise unsupported_node(node, f"tokens are combined by `{node.target}`")
