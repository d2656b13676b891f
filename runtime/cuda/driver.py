"""Turns CUDA's runtime library into streams, events, graphs and memory."""

from __future__ import annotations

import ctypes
import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.runtime.cuda.library import call_cuda, cuda_function, take_memory, use_first_gpu
from ingot.runtime.ffi import tvm_ffi

CUDA = 2  # DLPack's device type
HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = 1, 2, 3
# Another thread may do what it likes while this one captures.
CAPTURE_THREAD_LOCAL = 1
EVENT_WITHOUT_TIME = 2
STREAM_APART = 1  # from the default stream: neither waits for the other


def free_device_memory_bytes() -> int:
    """What nobody uses of the first GPU's memory."""
    use_first_gpu()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    call_cuda("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
    return free.value


def copy_async(to: int, source: int, num_bytes: int, kind: int, stream: Stream | None) -> None:
    """Put a copy on a stream, None being the default one. The host's side must be pinned, and stay
    as it is until the copy is waited for."""
    call_cuda(
        "cudaMemcpyAsync",
        ctypes.c_void_p(to),
        ctypes.c_void_p(source),
        ctypes.c_size_t(num_bytes),
        kind,
        _handle(stream),
    )


def copy_columns_async(
    to: int, source: int, pitch_bytes: int, num_bytes: int, num_columns: int, stream: Stream
) -> None:
    """Put one copy to the GPU on a stream, of the first bytes of columns of so many bytes each."""
    pitch = ctypes.c_size_t(pitch_bytes)
    call_cuda(
        "cudaMemcpy2DAsync",
        ctypes.c_void_p(to),
        pitch,
        ctypes.c_void_p(source),
        pitch,
        ctypes.c_size_t(num_bytes),
        ctypes.c_size_t(num_columns),
        HOST_TO_DEVICE,
        stream.handle,
    )


def _handle(stream: Stream | None) -> ctypes.c_void_p | None:
    return None if stream is None else stream.handle


class PinnedBuffer:
    """Bytes of the host that the GPU copies by itself. Given back with the object."""

    def __init__(self, num_bytes: int) -> None:
        self.pointer = take_memory("cudaMallocHost", num_bytes)
        memory = (ctypes.c_uint8 * num_bytes).from_address(self.pointer)
        self.array: NDArray[np.uint8] = np.ctypeslib.as_array(memory)
        weakref.finalize(self, cuda_function("cudaFreeHost"), ctypes.c_void_p(self.pointer))


class DeviceBuffer:
    """Bytes of the GPU. Given back with the object, once what runs there is done."""

    def __init__(self, num_bytes: int) -> None:
        self.pointer = take_memory("cudaMalloc", num_bytes)
        weakref.finalize(self, cuda_function("cudaFree"), ctypes.c_void_p(self.pointer))


class Event:
    """A place in a stream that the host can wait for. One whose time nobody asks for costs less."""

    def __init__(self, *, is_timed: bool = True) -> None:
        self._handle = ctypes.c_void_p()
        flags = 0 if is_timed else EVENT_WITHOUT_TIME
        call_cuda("cudaEventCreateWithFlags", ctypes.byref(self._handle), flags)
        weakref.finalize(self, cuda_function("cudaEventDestroy"), self._handle)

    def record(self, stream: Stream | None) -> None:
        call_cuda("cudaEventRecord", self._handle, _handle(stream))

    def wait(self) -> None:
        """Until what came before the last `record` is done; at once if there was none."""
        call_cuda("cudaEventSynchronize", self._handle)

    def seconds_since(self, earlier: Event) -> float:
        """On the GPU, between two records that have come to pass."""
        milliseconds = ctypes.c_float()
        call_cuda("cudaEventElapsedTime", ctypes.byref(milliseconds), earlier._handle, self._handle)
        return milliseconds.value / 1e3


class Stream:
    """An order of work of its own. It waits for the default stream, which TVM copies on, and the
    default stream for it: the two need no events between them. But for one that is apart."""

    def __init__(self, *, is_apart: bool = False) -> None:
        self.handle = ctypes.c_void_p()
        flags = STREAM_APART if is_apart else 0
        call_cuda("cudaStreamCreateWithFlags", ctypes.byref(self.handle), flags)
        weakref.finalize(self, cuda_function("cudaStreamDestroy"), self.handle)

    def wait(self) -> None:
        call_cuda("cudaStreamSynchronize", self.handle)

    def takes_kernels(self) -> Any:
        """A context in which this thread's compiled code launches on the stream."""
        return tvm_ffi.use_raw_stream(tvm_ffi.device("cuda", 0), self.handle.value or 0)


def capture(work: Callable[[Stream], Any]) -> tuple[Graph, Any]:
    """What `work` puts on the stream that it is given, as a graph, and what it returns. Nothing of
    it runs. This thread's compiled code launches there meanwhile.

    The stream is apart from the default one. If it were not, no thread of the process could use
    that one meanwhile, be it for another engine or another library.
    """
    stream, captured = Stream(is_apart=True), ctypes.c_void_p()
    with stream.takes_kernels(), _no_collection():
        call_cuda("cudaStreamBeginCapture", stream.handle, CAPTURE_THREAD_LOCAL)
        try:
            result = work(stream)
        except BaseException:
            # A stream that captures can't be given back. What was captured is worth nothing.
            cuda_function("cudaStreamEndCapture")(stream.handle, ctypes.byref(captured))
            raise
        call_cuda("cudaStreamEndCapture", stream.handle, ctypes.byref(captured))
    return Graph(captured), result


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python frees no cycles meanwhile: with them may go memory of the GPU, which a thread that
    captures can't give back."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Graph:
    """Kernels that one call launches."""

    def __init__(self, captured: ctypes.c_void_p) -> None:
        self._handle = ctypes.c_void_p()
        flags = ctypes.c_ulonglong(0)
        call_cuda("cudaGraphInstantiate", ctypes.byref(self._handle), captured, flags)
        call_cuda("cudaGraphDestroy", captured)
        weakref.finalize(self, cuda_function("cudaGraphExecDestroy"), self._handle)

    def launch(self, stream: Stream) -> None:
        call_cuda("cudaGraphLaunch", self._handle, stream.handle)
