"""Turns an artifact for an NVIDIA GPU into attached kernels and memory on the device.

Stands on the driver, CUDA's runtime library and TVM's two runtime libraries: no toolkit, no torch.
The kernels lie beside `model.so` as a cubin for each kind of GPU, with one table of how each kernel
is launched; `model.so` finds them by name once they are attached.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ingot.errors import ArtifactCorruptError, ArtifactTargetError, IngotError
from ingot.runtime.artifact.machine import detect_cuda_arch, device_code_for
from ingot.runtime.artifact.manifest import LAUNCHES_NAME
from ingot.runtime.ffi import find_tvm_libraries, load_tvm_runtime, tvm_ffi

CUDA = 2  # DLPack's device type
RUNTIME_LIBRARY = "libcudart.so.13"


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


def free_device_memory_bytes() -> int:
    """What nobody uses of the first GPU's memory. Loads CUDA's runtime."""
    load_cuda_runtime()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    runtime = ctypes.CDLL(None)  # its functions are global once it is loaded
    if status := runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)):
        raise IngotError(
            f"the GPU does not say how much memory is free: cudaMemGetInfo gave {status}",
            hint="nvidia-smi shows whether it works",
        )
    return free.value


def attach_kernels(module: Any, folder: Path, cuda_archs: Sequence[str]) -> None:
    """Make the kernels of the artifact in `folder` known to the host code of `module`.

    Of the files for `cuda_archs` the one that this machine's GPU runs best is taken.
    """
    gpu = detect_cuda_arch()
    name = None if gpu is None else device_code_for(gpu, cuda_archs)
    if name is None:
        raise ArtifactTargetError(
            f"the artifact's kernels are for {', '.join(cuda_archs)} GPUs; "
            f"this machine has {gpu or 'none'}"
        )
    code, launches_path = folder / name, folder / LAUNCHES_NAME
    try:
        read = tvm_ffi.get_global_func("runtime.LoadMetaDataFromJSON")
        launches = read(launches_path.read_text("utf-8"))
        create = tvm_ffi.get_global_func("ffi.Module.create.cuda")
        kind = code.suffix.removeprefix(".")
        module.imports[0].import_module(create(code.read_bytes(), kind, launches, {}))
    except (AttributeError, IndexError, OSError, RuntimeError, ValueError) as error:
        raise ArtifactCorruptError(f"the kernels {code} can't be attached: {error}") from error


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
