"""Micro-kernels in TIR: each does one thing as fast as the machine can, on all threads.

`threads` tasks run in parallel, each with its own data: `chunk` elements of the arrays, or
registers that start from its own row. What is computed is stored, so that nothing is left out, and
no two registers start alike, so that none is computed once for both.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.bfloat16_dot import (
    bfloat16_functions,
    dot_pairs,
)
from ingot.compile.kernels.vector_ir import (
    Expr,
    Register,
    T,
    fma,
    index,
    kernel,
    load,
    splat,
    store,
)
from ingot.targets import Target

# Loads and sums in flight: enough to hide the latency of either.
CHAINS = 8


def build_read(threads: int, chunk: int, passes: int, lanes: int) -> tirx.PrimFunc:
    """`(source [threads * chunk]) -> sums [threads, lanes]`: every int32 read `passes` times."""
    step = CHAINS * lanes
    assert chunk % step == 0, (chunk, step)
    with kernel("read") as function:
        source = function.argument("source", (threads * chunk,), "int32")
        sums = function.argument("sums", (threads, lanes), "int32")
        with T.parallel(index(threads)) as thread:
            chains = [Register(lanes, 0, "int32") for _ in range(CHAINS)]
            with T.serial(index(passes)), T.serial(index(chunk // step)) as i:
                for c, chain in enumerate(chains):
                    value = load(source, (thread * chunk + i * step + c * lanes,), lanes)
                    chain.set(chain.value + value)
            total = chains[0].value
            for chain in chains[1:]:
                total = total + chain.value
            store(sums, (thread, index(0)), total, lanes)
    return function.function


def build_copy(threads: int, chunk: int, lanes: int) -> tirx.PrimFunc:
    """`(source [threads * chunk]) -> target`, the same bytes elsewhere."""
    with kernel("copy") as function:
        source = function.argument("source", (threads * chunk,), "int32")
        target = function.argument("target", (threads * chunk,), "int32")
        with T.parallel(index(threads)) as thread, T.serial(index(chunk // lanes)) as i:
            where = (thread * chunk + i * lanes,)
            store(target, where, load(source, where, lanes), lanes)
    return function.function


def build_write(threads: int, chunk: int, lanes: int) -> tirx.PrimFunc:
    """`(start [lanes]) -> target [threads * chunk]`, the same vector all over it."""
    with kernel("write") as function:
        start = function.argument("start", (lanes,), "int32")
        target = function.argument("target", (threads * chunk,), "int32")
        with T.parallel(index(threads)) as thread, T.serial(index(chunk // lanes)) as i:
            value = load(start, (index(0),), lanes)
            store(target, (thread * chunk + i * lanes,), value, lanes)
    return function.function


@dataclass(frozen=True, slots=True)
class Instruction:
    """A multiply-add on whole registers: what it is called, and `update(accumulator, a, b)`."""

    kind: str  # "float32", "bfloat16", "int8"
    mnemonic: str
    feature: str  # what a CPU needs for it, as /proc/cpuinfo spells it
    dtype: str  # of the accumulator
    element_bytes: int  # of the accumulator's elements
    operations: int  # multiplications and additions for each of them
    update: Callable[[Expr, Expr, Expr, int], Expr]


def _fma(accumulator: Expr, a: Expr, b: Expr, lanes: int) -> Expr:
    as_float = f"float32x{lanes}"
    return fma(tirx.reinterpret(as_float, a), tirx.reinterpret(as_float, b), accumulator, lanes)


def _bytes_dot(accumulator: Expr, a: Expr, b: Expr, lanes: int) -> Expr:
    unsigned, signed = tirx.reinterpret(f"uint8x{4 * lanes}", a), _signed_bytes(b, lanes)
    name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
    return tirx.call_llvm_pure_intrin(f"int32x{lanes}", name, accumulator, unsigned, signed)


def _bytes_pairs(accumulator: Expr, _a: Expr, b: Expr, lanes: int) -> Expr:
    """The product is of the accumulator itself: else the compiler would multiply only once."""
    name = {32: "llvm.x86.avx512.pmaddubs.w.512", 16: "llvm.x86.avx2.pmadd.ub.sw"}[lanes]
    unsigned = tirx.reinterpret(f"uint8x{2 * lanes}", accumulator)
    signed = _signed_bytes(b, lanes // 2)
    product = tirx.call_llvm_pure_intrin(f"int16x{lanes}", name, unsigned, signed)
    return accumulator + product


def _bfloat_dot(accumulator: Expr, a: Expr, b: Expr, lanes: int) -> Expr:
    pairs = f"uint16x{2 * lanes}"
    return dot_pairs(accumulator, tirx.reinterpret(pairs, a), tirx.reinterpret(pairs, b), lanes)


def _neon_dot(accumulator: Expr, a: Expr, b: Expr, lanes: int) -> Expr:
    return tirx.call_llvm_pure_intrin(
        f"int32x{lanes}",
        "llvm.aarch64.neon.sdot",
        accumulator,
        _signed_bytes(a, lanes),
        _signed_bytes(b, lanes),
    )


def _neon_matrix(accumulator: Expr, a: Expr, b: Expr, lanes: int) -> Expr:
    return tirx.call_llvm_pure_intrin(
        f"int32x{lanes}",
        "llvm.aarch64.neon.smmla",
        accumulator,
        _signed_bytes(a, lanes),
        _signed_bytes(b, lanes),
    )


def _signed_bytes(value: Expr, lanes: int) -> Expr:
    return tirx.reinterpret(f"int8x{4 * lanes}", value)


def instructions(target: Target) -> tuple[Instruction, ...]:
    """The multiply-adds that code for this target has in its vectors."""
    width = {64: "avx512f", 32: "avx2", 16: "asimd"}[target.vector_bytes]
    known = [Instruction("float32", "fma", width, "float32", 4, 2, _fma)]
    if target.vector_bytes == 64 and target.has("avx512_vnni"):
        known.append(Instruction("int8", "vpdpbusd", "avx512_vnni", "int32", 4, 8, _bytes_dot))
    if target.has_bfloat16_dot:
        name, feature = {64: ("vdpbf16ps", "avx512_bf16"), 16: ("bfdot", "bf16")}[
            target.vector_bytes
        ]
        known.append(Instruction("bfloat16", name, feature, "float32", 4, 4, _bfloat_dot))
    pairs = {64: "avx512bw", 32: "avx2"}.get(target.vector_bytes, "")
    if target.has(pairs):
        known.append(Instruction("int8", "vpmaddubsw", pairs, "int16", 2, 4, _bytes_pairs))
    if target.has("asimddp"):
        known.append(Instruction("int8", "sdot", "asimddp", "int32", 4, 8, _neon_dot))
    if target.has("i8mm"):
        known.append(Instruction("int8", "smmla", "i8mm", "int32", 4, 16, _neon_matrix))
    return tuple(known)


def num_accumulators(target: Target) -> int:
    """All registers but the two operands and two more for what is in flight."""
    return target.vector_registers - 4


def build_peak(
    instruction: Instruction, target: Target, threads: int, iterations: int
) -> tirx.PrimFunc:
    """`(starts [threads, registers, lanes], operands [2, 32-bit lanes]) -> results`."""
    registers = num_accumulators(target)
    lanes = target.vector_bytes // instruction.element_bytes
    words = target.vector_bytes // 4
    with kernel("peak") as function:
        shape = (threads, registers, lanes)
        starts = function.argument("starts", shape, instruction.dtype)
        operands = function.argument("operands", (2, words), "int32")
        results = function.argument("results", shape, instruction.dtype)
        is_bfloat16 = instruction.kind == "bfloat16"
        imported = bfloat16_functions(target) if is_bfloat16 else nullcontext()
        with imported, T.parallel(index(threads)) as thread:
            a, b = (
                Register(words, load(operands, (index(i), index(0)), words), "int32")
                for i in range(2)
            )
            sums = [
                Register(
                    lanes, load(starts, (thread, index(r), index(0)), lanes), instruction.dtype
                )
                for r in range(registers)
            ]
            with T.serial(index(iterations)):
                for total in sums:
                    total.set(instruction.update(total.value, a.value, b.value, lanes))
            for r, total in enumerate(sums):
                store(results, (thread, index(r), index(0)), total.value, lanes)
    return function.function


def build_regions(threads: int, regions: int) -> tirx.PrimFunc:
    """`(start [threads]) -> count [threads]`: `regions` parallel regions, each next to nothing."""
    with kernel("regions") as function:
        start = function.argument("start", (threads,), "int32")
        count = function.argument("count", (threads,), "int32")
        with T.serial(index(regions)), T.parallel(index(threads)) as thread:
            T.buffer_store(count, start[thread] + splat(1, 1, "int32"), [thread])
    return function.function


def build_step(lanes: int) -> tirx.PrimFunc:
    """`(x [n, lanes]) -> x + 1`: the least that a kernel can do."""
    with kernel("least") as function:
        rows = tirx.Var("n", "int64")
        x = function.argument("x", (rows, lanes))
        out = function.argument("out", (rows, lanes))
        with T.serial(rows) as row:
            value = load(x, (row, index(0)), lanes) + splat(1.0, lanes)
            store(out, (row, index(0)), value, lanes)
    return function.function
