"""Turns CUDA's runtime library into calls that raise errors which say what to do."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ingot.errors import IngotError
from ingot.runtime.artifact.gpu_status import OUT_OF_MEMORY, hint_for
from ingot.runtime.ffi import find_tvm_libraries, load_tvm_runtime, tvm_ffi

RUNTIME_LIBRARY = "libcudart.so.13"
OLDEST_DRIVER = "580"  # of NVIDIA's that runs programs for CUDA 13


@cache
def load_cuda_runtime() -> None:
    """Map TVM's runtime for CUDA into the process once."""
    load_tvm_runtime()
    _check_driver()
    library = find_tvm_libraries() / "libtvm_runtime_cuda.so"
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        raise IngotError(f"TVM's runtime for CUDA can't be loaded: {error}") from None


@cache
def _cudart() -> ctypes.CDLL:
    """The system's library, or the one that the process has already, else the wheel's.

    Functions are taken from it alone: another program's libraries may have brought another version
    into the process, whose functions have the same names.
    """
    folders = (find_spec("nvidia.cu13") if find_spec("nvidia") else None) or None
    places = list(folders.submodule_search_locations or []) if folders else []
    for name in (RUNTIME_LIBRARY, *(str(Path(p) / "lib" / RUNTIME_LIBRARY) for p in places)):
        try:
            return ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)  # TVM's library finds it by its name
        except OSError:
            continue
    raise IngotError(
        f"CUDA's runtime library ({RUNTIME_LIBRARY}) is not installed",
        hint="pip install 'nvidia-cuda-runtime==13.*'",
    )


def _check_driver() -> None:
    """CUDA's runtime library needs a driver that is as new, up to the minor version."""
    cudart, driver, runtime = _cudart(), ctypes.c_int(), ctypes.c_int()
    cudart.cudaRuntimeGetVersion(ctypes.byref(runtime))
    cudart.cudaDriverGetVersion(ctypes.byref(driver))
    if not driver.value:
        raise IngotError(
            "this machine has no NVIDIA driver (libcuda.so.1)",
            hint="install it; a container gets it from its host by `--gpus all`",
        )
    if driver.value // 1000 < runtime.value // 1000:
        raise IngotError(
            f"the NVIDIA driver is for CUDA {_version(driver.value)}, and Ingot runs on CUDA "
            f"{_version(runtime.value)}",
            hint=f"install driver {OLDEST_DRIVER} or newer; GPUs of data centres may keep an older "
            "one with NVIDIA's package cuda-compat-13-0",
        )


def _version(number: int) -> str:
    """12040 -> 12.4"""
    return f"{number // 1000}.{number % 1000 // 10}"


@cache
def cuda_function(name: str) -> Callable[..., int]:
    """A function of the library, which gives a status. Integers are passed in 32 bits."""
    load_cuda_runtime()
    found: Callable[..., int] = getattr(_cudart(), name)
    return found


def call_cuda(name: str, *arguments: Any) -> None:
    """Call a function of CUDA's runtime; raise if it fails."""
    if status := cuda_function(name)(*arguments):
        raise _error(name, status)


def _error(name: str, status: int) -> IngotError:
    cuda_function("cudaGetLastError")()  # what is told need not come up elsewhere
    describe = _cudart().cudaGetErrorString
    describe.restype = ctypes.c_char_p
    said = describe(status).decode()
    return IngotError(f"the GPU failed: {name} gave {status}, {said}", hint=hint_for(status))


def take_memory(name: str, num_bytes: int) -> int:
    """A block of memory, from the library's function of this name.

    TVM keeps what steps have given back, by its size, until the GPU has no more for itself: it is
    asked for that before this fails.
    """
    pointer, size = ctypes.c_void_p(), ctypes.c_size_t(num_bytes)
    status = cuda_function(name)(ctypes.byref(pointer), size)
    if status == OUT_OF_MEMORY:
        release_pool()
        status = cuda_function(name)(ctypes.byref(pointer), size)
    if status:
        error = _error(name, status)
        raise IngotError(f"{error.message} ({num_bytes:,} bytes)", error.hint)
    assert pointer.value is not None
    return pointer.value


def release_pool() -> None:
    """Have TVM give the blocks of its pools back that no tensor is in. Waits for the GPU."""
    tvm_ffi.get_global_func("vm.builtin.memory_manager.clear")()


def use_first_gpu() -> None:
    """Make it this thread's device. It is, unless another library has chosen another one."""
    call_cuda("cudaSetDevice", 0)
