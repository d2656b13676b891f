"""Turns arrays into tensors on the first GPU and back."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ingot.errors import IngotError
from ingot.runtime.artifact.gpu_status import OUT_OF_MEMORY, hint_for
from ingot.runtime.cuda.library import load_cuda_runtime, release_pool
from ingot.runtime.cuda.packed import PackedArguments
from ingot.runtime.cuda.upload import OnProgress, upload
from ingot.runtime.ffi import tvm_ffi


class CudaMemory:
    """Tensors on the first GPU. Copies wait for all work before them, and end before they return,
    but for those that are lent."""

    def __init__(self) -> None:
        load_cuda_runtime()
        self._device = tvm_ffi.device("cuda", 0)
        self._allocate = tvm_ffi.get_global_func("runtime.TVMTensorAllocWithScope")
        self._view = tvm_ffi.get_global_func("runtime.TVMTensorCreateView")
        self._copy = tvm_ffi.get_global_func("runtime.TVMTensorCopyFromTo")
        self._copy_in = tvm_ffi.get_global_func("runtime.TVMTensorCopyFromBytes")
        self._copy_out = tvm_ffi.get_global_func("runtime.TVMTensorCopyToBytes")
        self._arguments = PackedArguments()

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """A tensor that holds anything."""
        kind = np.dtype(dtype)
        arguments = tvm_ffi.Shape(shape), tvm_ffi.dtype(kind.name), self._device, None
        try:
            return self._allocate(*arguments)
        except RuntimeError:
            release_pool()
        try:
            return self._allocate(*arguments)
        except RuntimeError as error:
            raise IngotError(
                f"the GPU gives no {math.prod(shape) * kind.itemsize:,} bytes: {error}",
                hint=hint_for(OUT_OF_MEMORY),
            ) from None

    def empty_all(self, kinds: Sequence[tuple[tuple[int, ...], DTypeLike]]) -> list[Any]:
        """Tensors of these shapes and types that hold anything, to be kept for long."""
        return [self.empty(*kind) for kind in kinds]

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
        """Copies of small arrays for one call. A later call overwrites them, after what was started
        with them: copies and kernels run in one order."""
        return self._arguments.lend(arrays)

    def read(self, tensor: Any) -> NDArray[Any]:
        """A copy on the host."""
        array = np.empty(tuple(tensor.shape), str(tensor.dtype))
        if array.size:
            self._copy_out(tensor, ctypes.c_void_p(array.ctypes.data), array.nbytes)
        return array

    def copy(self, tensor: Any) -> Any:
        """Another tensor that is alike."""
        copied = self.empty(tuple(tensor.shape), str(tensor.dtype))
        self._copy(tensor, copied)
        return copied

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
