"""Turns short Python expressions into CUDA TIR: launches, registers, shared memory, reductions.

Kernels are built with the same IR builder as on the CPU (`vector_ir.py`), one element a thread at a
time. A `PrimFunc` may launch several kernels, one for each `launch`. Its host part runs on the CPU
and decides the grid from the symbolic dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tvm import tirx
from tvm.script.ir_builder import IRBuilder

from ingot.compile.kernels.vector_ir import Buffer, Expr, T, ceil_div, index, otherwise_if

WARP = 32
BLOCK_THREADS = 256
FULL_WARP = 0xFFFFFFFF
LOWEST = -3.4028234663852886e38  # of float32
DYNAMIC = "shared.dyn"  # the scope of shared memory that the launch asks for


@contextmanager
def launch(blocks: Expr, threads: int, blocks_y: Expr | None = None) -> Iterator[tuple[Expr, ...]]:
    """One kernel: yields (block, [block_y,] thread) as int64. A grid of no blocks is not started,
    which CUDA would call an error."""
    empty = blocks if blocks_y is None else blocks * blocks_y
    with otherwise_if(empty > 0):
        y = None if blocks_y is None else T.launch_thread("blockIdx.y", blocks_y)
        with T.launch_thread("blockIdx.x", blocks) as block:
            if y is None:
                with T.launch_thread("threadIdx.x", threads) as thread:
                    yield block, index(thread)
            else:
                with y as row, T.launch_thread("threadIdx.x", threads) as thread:
                    yield block, row, index(thread)


def choose(
    n: Expr, choices: list[tuple[int, Callable[[], None]]], otherwise: Callable[[], None]
) -> None:
    """Emit the first choice whose limit n does not pass."""
    if not choices:
        otherwise()
        return
    limit, emit = choices[0]
    with T.If(n <= limit):
        with T.Then():
            emit()
        with T.Else():
            choose(n, choices[1:], otherwise)


def for_elements(total: Expr, emit: Callable[[Expr], None]) -> None:
    """Emit a kernel with one thread for each `i < total`."""
    with launch(ceil_div(total, BLOCK_THREADS), BLOCK_THREADS) as (block, thread):
        i = let(block * BLOCK_THREADS + thread, "int64")
        with otherwise_if(i < total):
            emit(i)


@contextmanager
def strided(thread: Expr, total: int | Expr, threads: int) -> Iterator[Expr]:
    """A loop in which `threads` threads share [0, total), neighbours side by side."""
    whole = index(total) if isinstance(total, int) else total
    with T.serial(ceil_div(whole, threads)) as step:
        i = step * threads + thread
        with otherwise_if(i < whole):
            yield i


class Local:
    """A thread's own variable."""

    __slots__ = ("_buffer",)

    def __init__(self, value: float | Expr, dtype: str = "float32") -> None:
        self._buffer = T.alloc_buffer((1,), dtype, scope="local")
        self.set(tirx.const(value, dtype) if isinstance(value, int | float) else value)

    def set(self, value: Expr) -> None:
        T.buffer_store(self._buffer, value, [0])

    @property
    def value(self) -> Expr:
        """What the variable holds where this expression is evaluated."""
        return self._buffer[0]


def let(value: Expr, dtype: str = "float32") -> Expr:
    """Evaluate once, use many times."""
    return Local(value, dtype).value


def shared(shape: tuple[int, ...], dtype: str = "float32") -> Buffer:
    """Memory that the threads of a block share.

    Index it with expressions of the thread and of loops, not of a `Local`: TVM shrinks the buffer
    to the range of its indices, and a variable's range is an expression that it can't allocate.
    Never read it in a condition; read it into a `Local` before.
    """
    return T.alloc_buffer(shape, dtype, scope="shared")


def barrier(scope: str = "shared") -> None:
    """Wait for all threads of the block; every one of them must come here.

    Name the scope of the buffer that is waited for: TVM puts barriers of its own between accesses
    of a scope where it sees none, and knows those of that scope alone.
    """
    T.evaluate(T.tvm_storage_sync(scope))


def dynamic_shared(count: int, dtype: str) -> Buffer:
    """Shared memory that the launch asks for. It is named by its type: C++ takes such arrays of one
    name, in all kernels of a file, for the same."""
    buffer = T.alloc_buffer((count,), dtype, scope=DYNAMIC)
    IRBuilder.name(f"shared_{dtype}", buffer)
    return buffer


Combine = Callable[[Expr, Expr], Expr]


def add(a: Expr, b: Expr) -> Expr:
    return a + b


def reduce_warp(
    value: Expr,
    combine: Combine,
    dtype: str = "float32",
    *,
    least_distance: int = 1,
    lanes: int = WARP,
) -> Expr:
    """Combine the values of a warp's lanes, or of those that are multiples of a distance apart, or
    of as many neighbours; all of them get the result."""
    result = Local(value, dtype)
    mask, width = tirx.const(FULL_WARP, "uint32"), tirx.const(WARP, "int32")
    distance = lanes // 2
    while distance >= least_distance:
        other = T.tvm_warp_shuffle_xor(
            mask, result.value, tirx.const(distance, "int32"), width, width
        )
        other = let(other, dtype)
        result.set(combine(result.value, other))
        distance //= 2
    return result.value


class BlockReducer:
    """Combines values over the threads of a block, always in the same order."""

    def __init__(self, thread: Expr, threads: int) -> None:
        assert threads % WARP == 0
        self._thread, self._num_warps = thread, threads // WARP
        self._scratch: dict[str, Buffer] = {}

    def reduce(self, value: Expr, combine: Combine, dtype: str = "float32") -> Expr:
        """All threads must call this, and all get the result."""
        warp_result = reduce_warp(value, combine, dtype)
        if self._num_warps == 1:
            return warp_result
        if dtype not in self._scratch:
            self._scratch[dtype] = shared((self._num_warps,), dtype)
        scratch = self._scratch[dtype]
        barrier()  # the last reduction has been read
        with otherwise_if(tirx.floormod(self._thread, WARP) == 0):
            T.buffer_store(scratch, warp_result, [tirx.floordiv(self._thread, WARP)])
        barrier()
        result = Local(scratch[0], dtype)
        for warp in range(1, self._num_warps):
            result.set(combine(result.value, scratch[warp]))
        return result.value

    def sum(self, value: Expr, dtype: str = "float32") -> Expr:
        return self.reduce(value, add, dtype)

    def max(self, value: Expr, dtype: str = "float32") -> Expr:
        return self.reduce(value, tirx.Max, dtype)

    def min(self, value: Expr, dtype: str = "float32") -> Expr:
        return self.reduce(value, tirx.Min, dtype)


def narrow(number: Expr, dtype: str) -> Expr:
    """A float32 variable as `dtype`, rounded to nearest even; raw uint16 for bfloat16."""
    if dtype == "float32":
        return number
    if dtype == "float16":
        return tirx.Cast("float16", number)
    assert dtype == "bfloat16", dtype
    bits = let(tirx.reinterpret("uint32", number), "uint32")
    sixteen = tirx.const(16, "uint32")
    lowest = (bits >> sixteen) & tirx.const(1, "uint32")
    rounded = (bits + (lowest + tirx.const(0x7FFF, "uint32"))) >> sixteen
    quiet = (bits >> sixteen) | tirx.const(0x40, "uint32")
    is_nan = (bits & tirx.const(0x7FFFFFFF, "uint32")) > tirx.const(0x7F800000, "uint32")
    return tirx.Cast("uint16", tirx.Select(is_nan, quiet, rounded))
