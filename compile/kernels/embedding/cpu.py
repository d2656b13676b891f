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
from ingot.compile.kernels.matmul.spec import GROUP, QUAD, Layout, layout, packed_tensors
from ingot.compile.kernels.vector_ir import Buffer, Expr, T, count, index, kernel, let
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
                value = _element(spec, cut, packed, block, column, k)
                T.buffer_store(out, value, [i, k])

        with T.If(n < PARALLEL_TOKENS):
            with T.Then(), T.serial(n) as i:
                emit_token(i)
            with T.Else(), T.parallel(n) as i:
                emit_token(i)
    return function.function


def _element(
    spec: EmbeddingSpec, cut: Layout, packed: list[Buffer], block: Expr, column: Expr, k: Expr
) -> Expr:
    """The float32 value of input `k` of one column of a block."""
    if not spec.format.is_quantized:
        return _float_element(spec.format.code, packed[0], block, column, k)
    integer = _integer(spec.format.bits, cut, packed[0], block, column, k)
    if spec.format.group_size:
        scale = packed[1][block, tirx.floordiv(k, GROUP), column]
    else:
        scale = packed[1][block, column]
    return tirx.Cast("float32", integer) * tirx.Cast("float32", scale)


def _float_element(code: str, weight: Buffer, block: Expr, column: Expr, k: Expr) -> Expr:
    if code != "bf16":
        return tirx.Cast("float32", weight[block, k, column])
    bits = weight[block, tirx.floordiv(k, 2), column * 2 + tirx.floormod(k, 2)]
    wide = tirx.Cast("uint32", bits) << tirx.const(16, "uint32")
    return tirx.reinterpret("float32", wide)


def _integer(bits: int, cut: Layout, weight: Buffer, block: Expr, column: Expr, k: Expr) -> Expr:
    """The signed integer, as int32, that the scale multiplies."""
    group, inside = tirx.floordiv(k, GROUP), tirx.floormod(k, GROUP)
    if bits == 8 and not cut.dot:
        grouped = len(weight.shape) == 4
        return tirx.Cast(
            "int32",
            weight[block, group, inside, column] if grouped else weight[block, k, column],
        )
    if cut.dot:
        packed_quads = GROUP // QUAD if bits == 8 else GROUP // QUAD // 2
        quad = tirx.floordiv(inside, QUAD)
        high = tirx.floordiv(quad, packed_quads)
        byte = weight[
            block, group, tirx.floormod(quad, packed_quads), column * QUAD + tirx.floormod(k, QUAD)
        ]
    else:
        high = tirx.floormod(inside, 2)
        byte = weight[block, group, tirx.floordiv(inside, 2), column]
    code = tirx.Cast("int32", byte)
    if bits == 4:
        code = (code >> tirx.Cast("int32", high * 4)) & tirx.const(15, "int32")
    return code - tirx.const(1 << (bits - 1), "int32")
