"""Turns short Python expressions into explicit vector TIR: loads, stores, registers, reductions.

Kernels are built with TVM's IR builder rather than parsed: loops over vectors are Python loops, so
tile sizes from the target unroll for free, and nothing depends on LLVM's auto-vectorisation.
`T` is the builder. Three facts about TVM 0.27 shape this file:

- A bound variable is inlined wherever it is used, which makes a polynomial in a polynomial grow
  exponentially. A `Register` (a buffer of one vector in "global" scope) is not: it becomes
  an `alloca` that LLVM promotes to a register. "local" scope would call the workspace allocator.
- Only constant allocations below 1024 bytes become an `alloca`.
- Vector loads take the alignment that the index arithmetic proves, so odd row widths are safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as tir_builder

Expr = Any
Buffer = Any
T = tir_builder  # TVM's own spelling

# Waking and joining the thread pool costs some 5 us: the time that one core takes for about this
# many elements that are read, computed on and written.
PARALLEL_ELEMENTS = 16384
CACHE_LINE_BYTES = 64  # on x86 and on Arm's servers
# Independent sums over a row, so that additions overlap instead of waiting for each other.
NUM_CHAINS = 4


def dtype_of(base: str, lanes: int) -> str:
    """Name the vector type: `float32`, 16 -> `float32x16`; one lane is the scalar."""
    return base if lanes == 1 else f"{base}x{lanes}"


def pool_dtype(dtype: str) -> str:
    """The element type that a buffer of `dtype` has on the CPU: bfloat16 travels as raw uint16."""
    return "uint16" if dtype == "bfloat16" else dtype


def pieces(width: int, lanes: int) -> tuple[tuple[int, int], ...]:
    """Cut [0, width) into (offset, lanes) vectors: whole ones, then halves down to one element."""
    cut, offset = [], 0
    while offset < width:
        while lanes > width - offset:
            lanes //= 2
        cut.append((offset, lanes))
        offset += lanes
    return tuple(cut)


def index(value: int | Expr) -> Expr:
    """An int64 index: every loop and offset is 64 bits wide, pools exceed 2^31 elements."""
    return tirx.const(value, "int64") if isinstance(value, int) else tirx.Cast("int64", value)


def ramp(base: Expr, lanes: int) -> Expr:
    return base if lanes == 1 else tirx.Ramp(base, 1, lanes)


def splat(value: float | Expr, lanes: int, dtype: str = "float32") -> Expr:
    scalar = tirx.const(value, dtype) if isinstance(value, int | float) else value
    return scalar if lanes == 1 else tirx.Broadcast(scalar, lanes)


def load(buffer: Buffer, indices: Sequence[Expr], lanes: int) -> Expr:
    """Load `lanes` neighbours along the last axis, starting at `indices`."""
    return buffer[(*indices[:-1], ramp(indices[-1], lanes))]


def store(buffer: Buffer, indices: Sequence[Expr], value: Expr, lanes: int) -> None:
    T.buffer_store(buffer, value, [*indices[:-1], ramp(indices[-1], lanes)])


def prefetch(buffer: Buffer, indices: Sequence[Expr]) -> None:
    """Ask for the cache line of an element to come into the second-level cache.

    The element may lie beyond the buffer's end: asking for what is not there does nothing.
    """
    read, second_level, data = (tirx.const(code, "int32") for code in (0, 2, 1))
    address = tirx.address_of(buffer[tuple(indices)])
    intrinsic = "llvm.prefetch"
    T.evaluate(tirx.call_llvm_intrin("void", intrinsic, address, read, second_level, data))


class Register:
    """A mutable vector (or scalar) that LLVM keeps in a register."""

    __slots__ = ("_buffer", "dtype", "lanes")

    def __init__(self, lanes: int, value: float | Expr | None = None, dtype: str = "float32"):
        self.lanes, self.dtype = lanes, dtype
        self._buffer = T.alloc_buffer((lanes,), dtype)
        if value is not None:
            self.set(splat(value, lanes, dtype) if isinstance(value, int | float) else value)

    def set(self, value: Expr) -> None:
        T.buffer_store(self._buffer, value, [ramp(0, self.lanes)])

    @property
    def value(self) -> Expr:
        """What the register holds where this expression is evaluated."""
        return self._buffer[ramp(0, self.lanes)]

    def lane(self, i: int) -> Expr:
        return self._buffer[i]


def let(value: Expr, lanes: int, dtype: str = "float32") -> Expr:
    """Evaluate once, use many times."""
    return Register(lanes, value, dtype).value


def fma(a: Expr, b: Expr, c: Expr, lanes: int) -> Expr:
    """a*b + c rounded once, spelled out so that every copy of a loop rounds alike."""
    return tirx.call_llvm_pure_intrin(dtype_of("float32", lanes), "llvm.fma", a, b, c)


def maximum(a: Expr, b: Expr) -> Expr:
    return tirx.Max(a, b)


def minimum(a: Expr, b: Expr) -> Expr:
    return tirx.Min(a, b)


def ceil_div(a: Expr, b: int) -> Expr:
    return tirx.floordiv(a + (b - 1), b)


def widen(value: Expr, dtype: str, lanes: int) -> Expr:
    """float32, float16 or raw bfloat16 (uint16) lanes as float32; exact."""
    if dtype == "float32":
        return value
    if dtype == "float16":
        return tirx.Cast(dtype_of("float32", lanes), value)
    assert dtype == "bfloat16", dtype
    bits = tirx.Cast(dtype_of("uint32", lanes), value) << splat(16, lanes, "uint32")
    return tirx.reinterpret(dtype_of("float32", lanes), bits)


def narrow(value: Expr, dtype: str, lanes: int) -> Expr:
    """float32 lanes as `dtype`, rounded to nearest even; raw uint16 for bfloat16. NaN stays NaN."""
    if dtype == "float32":
        return value
    if dtype == "float16":
        return tirx.Cast(dtype_of("float16", lanes), value)
    assert dtype == "bfloat16", dtype
    number = let(value, lanes)
    bits = let(tirx.reinterpret(dtype_of("uint32", lanes), number), lanes, "uint32")
    sixteen = splat(16, lanes, "uint32")
    lowest = (bits >> sixteen) & splat(1, lanes, "uint32")
    rounded = (bits + (lowest + splat(0x7FFF, lanes, "uint32"))) >> sixteen
    quiet = (bits >> sixteen) | splat(0x40, lanes, "uint32")
    size = bits & splat(0x7FFFFFFF, lanes, "uint32")
    is_nan = size > splat(0x7F800000, lanes, "uint32")  # TVM folds `x != x` to false
    return tirx.Cast(dtype_of("uint16", lanes), tirx.Select(is_nan, quiet, rounded))


def _reduce(value: Expr, lanes: int, combine: Any) -> Expr:
    while lanes > 1:
        half = lanes // 2
        whole = let(value, lanes)
        if half > 1:
            dtype = dtype_of("float32", half)
            low, high = tirx.op.vectorlow(dtype, whole), tirx.op.vectorhigh(dtype, whole)
        else:
            low, high = tirx.Shuffle([whole], [0]), tirx.Shuffle([whole], [1])
        value, lanes = combine(low, high), half
    return let(value, 1)


def reduce_max(value: Expr, lanes: int) -> Expr:
    """The largest lane."""
    return _reduce(value, lanes, tirx.Max)


def reduce_sum(value: Expr, lanes: int) -> Expr:
    """The sum of the lanes, halves added pairwise: always in the same order."""
    return _reduce(value, lanes, lambda a, b: a + b)


@contextmanager
def otherwise_if(condition: Expr) -> Iterator[None]:
    """Run the block where `condition` holds."""
    with T.If(condition), T.Then():
        yield


def rows_in_parallel(num_rows: Expr, elements_per_row: int, emit: Callable[[Expr], None]) -> None:
    """Emit `for row in num_rows: emit(row)`, on all cores where the work pays for waking them."""
    with T.If(num_rows * elements_per_row >= PARALLEL_ELEMENTS):
        with T.Then(), T.parallel(num_rows) as row:
            emit(row)
        with T.Else(), T.serial(num_rows) as row:
            emit(row)


def for_pieces(width: int, lanes: int, unroll: int, emit: Callable[[Expr, int, int], None]) -> None:
    """Emit `emit(offset, lanes, i % unroll)` over [0, width).

    A loop of `unroll` whole vectors, then what is left, unrolled.
    """
    step = lanes * unroll
    num_blocks = width // step
    if num_blocks > 1:
        with T.serial(index(num_blocks)) as block:
            for i in range(unroll):
                emit(block * step + i * lanes, lanes, i)
    done = num_blocks * step if num_blocks > 1 else 0
    for i, (offset, piece) in enumerate(pieces(width - done, lanes)):
        emit(index(done + offset), piece, i % unroll)


def accumulate_row(width: int, lanes: int, step: Callable[[Expr, int, Expr], Expr]) -> Expr:
    """Fold `accumulator = step(offset, lanes, accumulator)` over a row; the sum of all lanes."""
    chains = [Register(lanes, 0.0) for _ in range(NUM_CHAINS)]
    tail = Register(1, 0.0)

    def accumulate(offset: Expr, piece_lanes: int, chain: int) -> None:
        if piece_lanes == lanes:
            register = chains[chain]
            register.set(step(offset, lanes, register.value))
        else:
            value = step(offset, piece_lanes, splat(0.0, piece_lanes))
            tail.set(tail.value + reduce_sum(value, piece_lanes))

    for_pieces(width, lanes, NUM_CHAINS, accumulate)
    one, two, three, four = (chain.value for chain in chains)
    return let(reduce_sum((one + two) + (three + four), lanes) + tail.value, 1)


@contextmanager
def serial_or_once(extent: int) -> Iterator[Expr]:
    """A loop over a constant extent; a plain zero when there is one iteration."""
    if extent == 1:
        yield index(0)
        return
    with T.serial(index(extent)) as i:
        yield i


def count(name: str) -> Expr:
    """A symbolic dimension."""
    return tirx.Var(name, "int64")


class kernel:  # reads as a statement: `with kernel("rope") as k`
    """Build one PrimFunc: `argument` declares buffers in order, `function` is the result."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._builder = IRBuilder()
        self.function: Any = None

    def __enter__(self) -> kernel:
        self._builder.__enter__()
        self._frame = T.prim_func(False, True)
        self._frame.__enter__()
        T.func_name(self._name)
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        return self

    def argument(self, name: str, shape: Sequence[int | Expr], dtype: str = "float32") -> Buffer:
        handle = T.arg(name, T.handle())
        return T.match_buffer(handle, tuple(shape), dtype)

    def __exit__(self, *error: Any) -> None:
        self._frame.__exit__(*error)
        self._builder.__exit__(*error)
        if error[0] is None:
            self.function = self._builder.get()
