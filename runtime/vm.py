"""Turns an artifact's `model.so` into functions that take NumPy arrays where they lie.

Compiled code loads whole vectors from its arguments and checks nothing: every buffer handed to it
starts at a multiple of 64 bytes, or the process dies. `as_tensor` is the only way in.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ingot.errors import ArtifactCorruptError, UsageError
from ingot.runtime.cuda import CUDA, attach_kernels, load_cuda_runtime
from ingot.runtime.ffi import load_tvm_runtime, tvm_ffi

ALIGNMENT = 64
CPU = 1  # DLPack's device type
# TVM's allocators. The pooled one keeps freed memory for tensors of exactly the same size: it
# spares a GPU slow calls, and gives all back when the GPU has no more. On the host that never
# happens, and with steps of all lengths it would keep gigabytes; the C library does well there.
NAIVE, POOLED = 1, 2
MAX_LENT = 64  # sets of small tensors, by their shapes
SHARE_ALL_CORES = -3  # TVM's affinity mode that pins no thread to one core


def aligned_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Zeros at a 64-byte boundary. The system gives the memory page by page, as it is written."""
    kind = np.dtype(dtype)
    num_bytes = math.prod(shape) * kind.itemsize
    raw = np.zeros(num_bytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + num_bytes].view(kind).reshape(shape)


def as_tensor(array: NDArray[Any]) -> Any:
    """Lend an array to compiled code without a copy; the tensor keeps the array alive."""
    # An empty array may be anywhere: nothing reads it.
    is_aligned = array.ctypes.data % ALIGNMENT == 0 or not array.size
    assert array.flags.c_contiguous and is_aligned, "misaligned buffer"
    return tvm_ffi.from_dlpack(array)


def zeros_side_by_side(kinds: Sequence[tuple[tuple[int, ...], DTypeLike]]) -> list[NDArray[Any]]:
    """Zeros of these shapes and types at 64-byte boundaries of one buffer.

    NumPy asks for huge pages for what is large, and pieces of the cache alone may not be.
    """
    sizes = [math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in kinds]
    starts = [0, *accumulate(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes)]
    buffer = aligned_zeros((starts[-1],), np.uint8)
    return [
        buffer[start : start + size].view(dtype).reshape(shape)
        for start, size, (shape, dtype) in zip(starts[:-1], sizes, kinds, strict=True)
    ]


def copy_aligned(arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Copies at 64-byte boundaries of one buffer."""
    copies = zeros_side_by_side([(array.shape, array.dtype) for array in arrays])
    for to, array in zip(copies, arrays, strict=True):
        to[...] = array
    return copies


def as_array(tensor: Any) -> NDArray[Any]:
    """See a tensor of compiled code as an array without a copy; it may be read-only."""
    return np.from_dlpack(tensor)


def available_cpus() -> tuple[int, ...]:
    """The CPUs that this process may run on."""
    return tuple(sorted(os.sched_getaffinity(0)))


class VirtualMachine:
    """The functions of one `model.so`. Not for two threads at the same time."""

    def __init__(
        self,
        code_path: Path,
        num_threads: int | None = None,
        cuda_archs: Sequence[str] = (),
    ) -> None:
        """With `cuda_archs` the kernels beside the code are attached, and it runs on the GPU."""
        self._cpus = available_cpus()
        self.num_threads = len(self._cpus) if num_threads is None else num_threads
        if not 1 <= self.num_threads <= len(self._cpus):
            raise UsageError(
                f"num_threads is {num_threads}; this process may use 1 to {len(self._cpus)}"
            )
        load_cuda_runtime() if cuda_archs else load_tvm_runtime()
        try:
            # TVM opens a relative path by searching the library path.
            self._module = tvm_ffi.load_module(str(code_path.resolve()))
            self._vm = self._module["vm_load_executable"]()
        except (AttributeError, OSError, RuntimeError) as error:
            raise ArtifactCorruptError(f"{code_path} can't be loaded: {error}") from error
        if cuda_archs:
            attach_kernels(self._module, code_path.parent, cuda_archs)
        # The device that tensors are on comes first, the host last.
        devices = (CUDA, 0, POOLED, CPU, 0, NAIVE) if cuda_archs else (CPU, 0, NAIVE)
        self._vm["vm_initialization"](*devices)
        self._configured = threading.local()
        self._functions: dict[str, Any] = {}

    def call(self, name: str, *args: Any) -> Any:
        """Run one function. Arguments are tensors, or sequences of tensors for tuples."""
        if not hasattr(self._configured, "done"):
            self._configure_threads()
            self._configured.done = True
        if name not in self._functions:
            self._functions[name] = self._vm[name]
        return self._functions[name](*args)

    def observe(self, observer: Callable[..., None]) -> None:
        """Have `observer(function, name, before, result, *args)` called before and after every
        call that a function makes: kernels and the machine's own. For good: there is no way back.
        """
        self._vm["set_instrument"](tvm_ffi.convert(observer))

    def _configure_threads(self) -> None:
        # TVM has one pool of workers for each calling thread. Its size is fixed by the first use
        # to the length of this list; the number in use may change later.
        configure = tvm_ffi.get_global_func("runtime.config_threadpool")
        configure(SHARE_ALL_CORES, self.num_threads, [str(cpu) for cpu in self._cpus])


class HostMemory:
    """Arrays as compiled code for a CPU takes them: lent where they lie, never copied for long."""

    def __init__(self) -> None:
        self._lent: dict[tuple[Any, ...], tuple[list[NDArray[Any]], list[Any]]] = {}

    def empty_all(self, kinds: Sequence[tuple[tuple[int, ...], DTypeLike]]) -> list[Any]:
        return [as_tensor(array) for array in zeros_side_by_side(kinds)]

    def hold(self, array: NDArray[Any]) -> Any:
        return as_tensor(array)

    def hold_all(
        self, arrays: Sequence[NDArray[Any]], on_progress: Callable[[int, int], None] | None = None
    ) -> list[Any]:
        """Nothing is copied, so there is no progress to tell of."""
        return [as_tensor(array) for array in arrays]

    def lend(self, arrays: Sequence[NDArray[Any]]) -> list[Any]:
        """Copies, which the next call with the same shapes overwrites: steps of a batch that
        decodes are alike, and making tensors takes longer than filling them."""
        shapes = tuple((array.shape, array.dtype.char) for array in arrays)
        known = self._lent.get(shapes)
        if known is None:
            if len(self._lent) >= MAX_LENT:
                self._lent.clear()
            copies = copy_aligned(arrays)
            known = self._lent[shapes] = copies, [as_tensor(copy) for copy in copies]
        else:
            for copy, array in zip(known[0], arrays, strict=True):
                copy[...] = array
        return known[1]

    def read(self, tensor: Any) -> NDArray[Any]:
        return as_array(tensor)

    def copy_rows(self, tensor: Any, copies: Sequence[tuple[int, int]]) -> None:
        array = as_array(tensor)
        for source, destination in copies:
            array[destination] = array[source]
