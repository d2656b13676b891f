"""Turns CUDA's runtime library into streams, events, pinned memory and errors with a name."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.errors import IngotError
from ingot.runtime.ffi import find_tvm_libraries, load_tvm_runtime, tvm_ffi

CUDA = 2  # DLPack's device type
RUNTIME_LIBRARY = "libcudart.so.13"
HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = 1, 2, 3
# Another thread may do what it likes while this one captures.
CAPTURE_THREAD_LOCAL = 1


@cache
def load_cuda_runtime() -> None:
    """Map TVM's runtime for CUDA into the process once."""
    load_tvm_runtime()
    _load_cudart()
    library = find_tvm_libraries() / "libtvm_runtime_cuda.so"
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        raise IngotError(f"TVM's runtime for CUDA can't be loaded: {error}") from None


def _load_cudart() -> None:
    """The system's library, or the one that the process has already, else the wheel's."""
    folders = (find_spec("nvidia.cu13") if find_spec("nvidia") else None) or None
    places = list(folders.submodule_search_locations or []) if folders else []
    for name in (RUNTIME_LIBRARY, *(str(Path(p) / "lib" / RUNTIME_LIBRARY) for p in places)):
        try:
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return
    raise IngotError(
        f"CUDA's runtime library ({RUNTIME_LIBRARY}) is not installed",
        hint="pip install 'nvidia-cuda-runtime==13.*'",
    )


@cache
def _function(name: str) -> Callable[..., int]:
    load_cuda_runtime()
    found: Callable[..., int] = getattr(ctypes.CDLL(None), name)  # global once it is loaded
    return found


def call_cuda(name: str, *arguments: Any) -> None:
    """Call a function of CUDA's runtime; raise if it fails. Integers are 32 bits wide."""
    if status := _function(name)(*arguments):
        describe = ctypes.CDLL(None).cudaGetErrorString
        describe.restype = ctypes.c_char_p
        raise IngotError(
            f"the GPU failed: {name} gave {status}, {describe(status).decode()}",
            hint="nvidia-smi shows whether it works and who uses its memory",
        )


def free_device_memory_bytes() -> int:
    """What nobody uses of the first GPU's memory."""
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
        pointer = ctypes.c_void_p()
        call_cuda("cudaMallocHost", ctypes.byref(pointer), ctypes.c_size_t(num_bytes))
        assert pointer.value is not None
        self.pointer: int = pointer.value
        memory = (ctypes.c_uint8 * num_bytes).from_address(self.pointer)
        self.array: NDArray[np.uint8] = np.ctypeslib.as_array(memory)
        weakref.finalize(self, _function("cudaFreeHost"), pointer)


class DeviceBuffer:
    """Bytes of the GPU. Given back with the object, once what runs there is done."""

    def __init__(self, num_bytes: int) -> None:
        pointer = ctypes.c_void_p()
        call_cuda("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(num_bytes))
        assert pointer.value is not None
        self.pointer: int = pointer.value
        weakref.finalize(self, _function("cudaFree"), pointer)


class Event:
    """A place in a stream that the host can wait for."""

    def __init__(self) -> None:
        self._handle = ctypes.c_void_p()
        call_cuda("cudaEventCreate", ctypes.byref(self._handle))
        weakref.finalize(self, _function("cudaEventDestroy"), self._handle)

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
    default stream for it: the two need no events between them."""

    def __init__(self) -> None:
        self.handle = ctypes.c_void_p()
        call_cuda("cudaStreamCreate", ctypes.byref(self.handle))
        weakref.finalize(self, _function("cudaStreamDestroy"), self.handle)

    def wait(self) -> None:
        call_cuda("cudaStreamSynchronize", self.handle)

    def takes_kernels(self) -> Any:
        """A context in which this thread's compiled code launches on the stream."""
        return tvm_ffi.use_raw_stream(tvm_ffi.device("cuda", 0), self.handle.value or 0)

    def capture(self, work: Callable[[], Any]) -> tuple[Graph, Any]:
        """What `work` launches, as a graph, and what it returns. Nothing of it runs."""
        call_cuda("cudaStreamBeginCapture", self.handle, CAPTURE_THREAD_LOCAL)
        captured = ctypes.c_void_p()
        try:
            result = work()
        except BaseException:
            # A stream that captures takes no other work. What was captured is worth nothing.
            _function("cudaStreamEndCapture")(self.handle, ctypes.byref(captured))
            raise
        call_cuda("cudaStreamEndCapture", self.handle, ctypes.byref(captured))
        return Graph(captured), result


class Graph:
    """Kernels that one call launches."""

    def __init__(self, captured: ctypes.c_void_p) -> None:
        self._handle = ctypes.c_void_p()
        flags = ctypes.c_ulonglong(0)
        call_cuda("cudaGraphInstantiate", ctypes.byref(self._handle), captured, flags)
        call_cuda("cudaGraphDestroy", captured)
        weakref.finalize(self, _function("cudaGraphExecDestroy"), self._handle)

    def launch(self, stream: Stream) -> None:
        call_cuda("cudaGraphLaunch", self._handle, stream.handle)
