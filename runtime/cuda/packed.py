"""Turns a call's small arrays into tensors on the GPU by one copy: they lie side by side."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.runtime.cuda.driver import (
    CUDA,
    HOST_TO_DEVICE,
    DeviceBuffer,
    Event,
    PinnedBuffer,
    Stream,
    copy_async,
    copy_columns_async,
)
from ingot.runtime.cuda.library import use_first_gpu
from ingot.runtime.ffi import tvm_ffi

ALIGNMENT = 256  # of what cudaMalloc gives as well
DLPACK_CODES = {"i": 0, "u": 1, "f": 2}
MAX_VIEWS = 4096
# A step's calls, from its own to `sample`: none waits for the copy of the one before.
NUM_TURNS = 4

ArraySpec = tuple[tuple[int, ...], np.dtype[Any]]


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        # What makes it a managed tensor.
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


_LIBC = ctypes.CDLL(None)
_LIBC.malloc.restype = ctypes.c_void_p
_LIBC.malloc.argtypes = (ctypes.c_size_t,)
_FREE = ctypes.cast(_LIBC.free, ctypes.c_void_p).value


class DeviceView:
    """A tensor in the middle of a buffer, which must outlive it. TVM's own views keep the buffer's
    address and add an offset, which kernels don't take.

    The tensor owns its description and gives it to the C library's `free`: Python may be gone by
    then, at the end of a process.
    """

    def __init__(self, pointer: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        extents = ctypes.c_int64 * (2 * len(shape))
        self._address = _LIBC.malloc(ctypes.sizeof(_DLTensor) + ctypes.sizeof(extents))
        start = self._address + ctypes.sizeof(_DLTensor)
        extents.from_address(start)[:] = [*shape, *strides]
        pointers = ctypes.POINTER(ctypes.c_int64)
        described = _DLTensor(
            data=pointer,
            device_type=CUDA,
            ndim=len(shape),
            code=DLPACK_CODES[dtype.kind],
            bits=8 * dtype.itemsize,
            lanes=1,
            shape=ctypes.cast(start, pointers),
            strides=ctypes.cast(start + 8 * len(shape), pointers),
            deleter=_FREE,
        )
        ctypes.memmove(self._address, ctypes.byref(described), ctypes.sizeof(described))
        self.tensor: Any = tvm_ffi.from_dlpack(self)

    def __dlpack__(self, **_: Any) -> Any:
        create = ctypes.pythonapi.PyCapsule_New
        create.restype = ctypes.py_object
        create.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        return create(self._address, b"dltensor", None)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, 0


def lay_out(specs: Sequence[ArraySpec]) -> tuple[list[int], int]:
    """Where each array starts, and the bytes of all."""
    sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in specs]
    ends = list(accumulate((-(-size // ALIGNMENT) * ALIGNMENT for size in sizes), initial=0))
    return ends[:-1], ends[-1]


class PackedBuffer:
    """Memory of the host and as much of the GPU's, which one copy makes alike. The host may have it
    several times, to fill one while another is copied."""

    def __init__(self, num_bytes: int, num_turns: int = 1) -> None:
        self.num_bytes = num_bytes
        self._hosts = [PinnedBuffer(num_bytes) for _ in range(num_turns)]
        self._device = DeviceBuffer(num_bytes)
        self._views: dict[tuple[Any, ...], DeviceView] = {}

    def arrays(self, specs: Sequence[ArraySpec], turn: int = 0) -> list[NDArray[Any]]:
        """The arrays on the host."""
        starts, _ = lay_out(specs)
        found = []
        for (shape, dtype), start in zip(specs, starts, strict=True):
            raw = self._hosts[turn].array[start : start + math.prod(shape) * dtype.itemsize]
            found.append(raw.view(dtype).reshape(shape))
        return found

    def tensors(self, specs: Sequence[ArraySpec]) -> list[Any]:
        """The tensors on the GPU, which must not outlive the buffer."""
        if len(self._views) + len(specs) > MAX_VIEWS:
            self._views.clear()
        starts, _ = lay_out(specs)
        return [self.tensor(start, *spec) for spec, start in zip(specs, starts, strict=True)]

    def send(self, num_bytes: int, stream: Stream | None, turn: int = 0) -> None:
        """Put the copy of the first bytes on a stream."""
        source = self._hosts[turn].pointer
        copy_async(self._device.pointer, source, num_bytes, HOST_TO_DEVICE, stream)

    def send_columns(
        self, start: int, pitch_bytes: int, num_bytes: int, num_columns: int, stream: Stream
    ) -> None:
        """The same of the first bytes of each of some columns, which lie so far apart."""
        to, source = self._device.pointer + start, self._hosts[0].pointer + start
        copy_columns_async(to, source, pitch_bytes, num_bytes, num_columns, stream)

    def tensor(self, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """One that starts at so many bytes, and must not outlive the buffer."""
        key = start, shape, dtype
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = DeviceView(self._device.pointer + start, shape, dtype)
        return view.tensor


class PackedArguments:
    """Buffers that take turns, so that a call's arguments are not waited for."""

    def __init__(self) -> None:
        self._buffers = [PackedBuffer(ALIGNMENT) for _ in range(NUM_TURNS)]
        self._are_read = [Event(is_timed=False) for _ in range(NUM_TURNS)]
        self._turn = 0

    def lend(self, arrays: Sequence[NDArray[Any]]) -> list[Any]:
        """Copies on the GPU, valid until as many calls have come as there are buffers."""
        use_first_gpu()
        turn = self._turn = (self._turn + 1) % NUM_TURNS
        specs = [(array.shape, array.dtype) for array in arrays]
        _, num_bytes = lay_out(specs)
        self._are_read[turn].wait()
        if self._buffers[turn].num_bytes < num_bytes:
            # What runs with the old one: freeing memory of a GPU waits for it.
            self._buffers[turn] = PackedBuffer(2 * num_bytes)
        buffer = self._buffers[turn]
        for place, array in zip(buffer.arrays(specs), arrays, strict=True):
            place[...] = array
        buffer.send(num_bytes, None)
        self._are_read[turn].record(None)
        return buffer.tensors(specs)
