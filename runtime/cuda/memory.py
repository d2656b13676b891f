"""Turns arrays into tensors on the first GPU and back."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ingot.runtime.cuda.driver import CUDA, load_cuda_runtime
from ingot.runtime.cuda.upload import OnProgress, upload
from ingot.runtime.ffi import tvm_ffi

DLPACK_CODES = {"i": 0, "u": 1, "f": 2}


class CudaMemory:
    """Tensors on the first GPU. Copies wait for all work before them and end before they return."""

    def __init__(self) -> None:
        load_cuda_runtime()
        self._device = tvm_ffi.device("cuda", 0)
        self._allocate = tvm_ffi.get_global_func("runtime.TVMTensorAllocWithScope")
        self._view = tvm_ffi.get_global_func("runtime.TVMTensorCreateView")
        self._copy = tvm_ffi.get_global_func("runtime.TVMTensorCopyFromTo")
        self._copy_in = tvm_ffi.get_global_func("runtime.TVMTensorCopyFromBytes")
        self._copy_out = tvm_ffi.get_global_func("runtime.TVMTensorCopyToBytes")
        self._arguments: list[Any] = []

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """A tensor that holds anything."""
        name = np.dtype(dtype).name
        return self._allocate(tvm_ffi.Shape(shape), tvm_ffi.dtype(name), self._device, None)

    def hold(self, array: NDArray[Any]) -> Any:
        """A copy of an array, to be kept for long."""
        tensor = self.empty(array.shape, array.dtype)
        self._fill(tensor, array)
        return tensor

    def hold_all(
        self, arrays: Sequence[NDArray[Any]], on_progress: OnProgress | None = None
    ) -> list[Any]:
        """Copies of many arrays, through pinned buffers."""
        tensors = [self.empty(array.shape, array.dtype) for array in arrays]
        upload(arrays, tensors, on_progress)
        return tensors

    def lend(self, arrays: Sequence[NDArray[Any]]) -> list[Any]:
        """Copies of small arrays for one call. The next call overwrites them, after what was
        started with them: copies and kernels run in one order."""
        return [self._lend(place, array) for place, array in enumerate(arrays)]

    def _lend(self, place: int, array: NDArray[Any]) -> Any:
        """Views start where their buffer does: kernels take no offset. Hence a buffer a place."""
        while len(self._arguments) <= place:
            self._arguments.append(self.empty((0,), np.uint8))
        if self._arguments[place].shape[0] < array.nbytes:
            self._arguments[place] = self.empty((2 * array.nbytes,), np.uint8)
        dtype = tvm_ffi.dtype(array.dtype.name)
        view = self._view(self._arguments[place], tvm_ffi.Shape(array.shape), dtype, 0)
        self._fill(view, array)
        return view

    def read(self, tensor: Any) -> NDArray[Any]:
        """A copy on the host."""
        array = np.empty(tuple(tensor.shape), str(tensor.dtype))
        if array.size:
            self._copy_out(tensor, ctypes.c_void_p(array.ctypes.data), array.nbytes)
        return array

    def read_row(self, tensor: Any, row: int) -> NDArray[Any]:
        """A copy of one row of a matrix on the host."""
        return np.asarray(self.read(self._row(tensor, row))[0])

    def copy_rows(self, tensor: Any, copies: Sequence[tuple[int, int]]) -> None:
        """Overwrite each second row with the first, on the device."""
        for source, destination in copies:
            self._copy(self._row(tensor, source), self._row(tensor, destination))

    def _row(self, tensor: Any, row: int) -> Any:
        _, *rest = tensor.shape
        row_bytes = math.prod(rest) * np.dtype(str(tensor.dtype)).itemsize
        return self._view(tensor, tvm_ffi.Shape((1, *rest)), tensor.dtype, row * row_bytes)

    def _fill(self, tensor: Any, array: NDArray[Any]) -> None:
        if array.size:
            whole = np.ascontiguousarray(array)
            self._copy_in(tensor, ctypes.c_void_p(whole.ctypes.data), whole.nbytes)


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
        # What makes it a managed tensor: nobody is called when it is given back.
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


class DeviceView:
    """A tensor in the middle of a buffer, which must outlive it. TVM's own views keep the buffer's
    address and add an offset, which kernels don't take."""

    def __init__(self, pointer: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        self._extents = (ctypes.c_int64 * (2 * len(shape)))(*shape, *strides)
        start = ctypes.addressof(self._extents)
        extents = ctypes.POINTER(ctypes.c_int64)
        self._described = _DLTensor(
            data=pointer,
            device_type=CUDA,
            ndim=len(shape),
            code=DLPACK_CODES[dtype.kind],
            bits=8 * dtype.itemsize,
            lanes=1,
            shape=ctypes.cast(start, extents),
            strides=ctypes.cast(start + 8 * len(shape), extents),
        )
        self.tensor: Any = tvm_ffi.from_dlpack(self)

    def __dlpack__(self, **_: Any) -> Any:
        create = ctypes.pythonapi.PyCapsule_New
        create.restype = ctypes.py_object
        create.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        return create(ctypes.addressof(self._described), b"dltensor", None)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, 0
