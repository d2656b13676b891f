"""Turn an `EmbeddingSpec` into a CPU kernel: out[i, :] = table[token_ids[i], :].

token_ids: [n] int32, each in [0, vocab_size), which the caller has checked; table: packed as
`matmul/spec.py` draws it; out: [n, hidden_size] float32, the exact value of every stored weight.

A row is a column of a packed block, so its weights lie `block` elements apart and each is a scalar
load. That costs one cache line for each input (or quad of inputs), some microseconds a token,
against the milliseconds of reading the other matrices; a second copy of the table would cost
hundreds of megabytes.
"""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.embedding.spec import EmbeddingSpec
from ingot.compile.kernels.matmul.element import element
from ingot.compile.kernels.matmul.spec import layout, packed_tensors
from ingot.compile.kernels.vector_ir import Expr, T, count, index, kernel, let
from ingot.targets.target import Target

# From this many tokens on, gathering their rows is worth starting the other threads.
PARALLEL_TOKENS = 8


def build(spec: EmbeddingSpec, target: Target) -> tirx.PrimFunc:
    """The kernel `(token_ids, *packed, out)`; the number of tokens n is symbolic, 0 included."""
    cut = layout(spec.table, target)
    with kernel(f"embedding_{spec.format.code}") as function:
        n = count("n")
        token_ids = function.argument("token_ids", (n,), "int32")
        packed = [
            function.argument(tensor.suffix, tensor.shape, tensor.dtype)
            for tensor in packed_tensors(spec.table, target)
        ]
        out = function.argument("out", (n, spec.hidden_size))

        def emit_token(i: Expr) -> None:
            token = let(index(token_ids[i]), 1, "int64")
            block = let(tirx.floordiv(token, cut.block), 1, "int64")
            column = let(tirx.floormod(token, cut.block), 1, "int64")
            with T.serial(index(spec.hidden_size)) as k:
                value = element(spec.format, cut, packed, block, column, k)
                T.buffer_store(out, value, [i, k])

        with T.If(n < PARALLEL_TOKENS):
            with T.Then(), T.serial(n) as i:
                emit_token(i)
            with T.Else(), T.parallel(n) as i:
                emit_token(i)
    return function.function
