"""The embedding of `cpu.py` on a GPU: one thread an element, so that a row is read side by side."""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.cuda_ir import for_elements, let
from ingot.compile.kernels.embedding.spec import EmbeddingSpec
from ingot.compile.kernels.matmul.element import element
from ingot.compile.kernels.matmul.spec import layout, packed_tensors
from ingot.compile.kernels.vector_ir import Expr, T, count, index, kernel
from ingot.targets import Target


def build(spec: EmbeddingSpec, target: Target) -> tirx.PrimFunc:
    """(token_ids, *packed, out) -> nothing; writes out."""
    n, width, cut = count("n"), spec.hidden_size, layout(spec.table, target)
    with kernel(f"embedding_{spec.format.code}") as k:
        token_ids = k.argument("token_ids", (n,), "int32")
        packed = [
            k.argument(tensor.suffix, tensor.shape, tensor.dtype)
            for tensor in packed_tensors(spec.table, target)
        ]
        out = k.argument("out", (n, width))

        def copy(i: Expr) -> None:
            row = let(tirx.floordiv(i, width), "int64")
            column = let(tirx.floormod(i, width), "int64")
            token = let(index(token_ids[row]), "int64")
            value = element(spec.format, cut, packed, token, index(0), column)
            T.buffer_store(out, value, [row, column])

        for_elements(n * width, copy)
    return k.function
