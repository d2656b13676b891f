"""Turns the kernels beside a `model.so` into functions that its host code finds by name.

They lie there as a cubin for each kind of GPU, with one table of how each kernel is launched, and
as assembly for GPUs that came later.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingot.errors import ArtifactCorruptError, ArtifactTargetError
from ingot.runtime.artifact.machine import (
    CUDA_DRIVER,
    cuda_target_for,
    detect_cuda_arch,
    detect_machine,
    device_code_for,
)
from ingot.runtime.artifact.manifest import LAUNCHES_NAME
from ingot.runtime.cuda.library import call_cuda, use_first_gpu
from ingot.runtime.ffi import tvm_ffi

# The driver's numbers for the options of loading: a buffer for errors, and its size.
ERROR_LOG, ERROR_LOG_BYTES = 5, 6
LOG_BYTES = 8192


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
    path, launches_path = folder / name, folder / LAUNCHES_NAME
    try:
        code = path.read_bytes()
        read = tvm_ffi.get_global_func("runtime.LoadMetaDataFromJSON")
        launches = read(launches_path.read_text("utf-8"))
        create = tvm_ffi.get_global_func("ffi.Module.create.cuda")
        module.imports[0].import_module(create(code, path.suffix.removeprefix("."), launches, {}))
    except (AttributeError, IndexError, OSError, RuntimeError, ValueError) as error:
        raise ArtifactCorruptError(f"the kernels {path} can't be attached: {error}") from error
    check_loads(code, path, gpu)


def check_loads(code: bytes, path: Path, gpu: str | None) -> None:
    """Load the code once to see whether the driver takes it, and say what it says if not.

    TVM loads it at the first launch and knows the error's number alone. The driver keeps what it
    compiles from assembly, so that the second time is short.
    """
    use_first_gpu()
    call_cuda("cudaFree", None)  # makes the context that modules are loaded into
    driver = ctypes.CDLL(CUDA_DRIVER)
    log = ctypes.create_string_buffer(LOG_BYTES)
    options = (ctypes.c_int * 2)(ERROR_LOG, ERROR_LOG_BYTES)
    values = (ctypes.c_void_p * 2)(ctypes.addressof(log), LOG_BYTES)
    loaded = ctypes.c_void_p()
    image = ctypes.c_char_p(code)  # which ends with a zero, as assembly must
    status = driver.cuModuleLoadDataEx(ctypes.byref(loaded), image, 2, options, values)
    if status:
        said = log.value.decode(errors="replace").strip() or "nothing more"
        target = cuda_target_for(detect_machine())
        raise ArtifactTargetError(
            f"the driver does not load {path} for this machine's GPU ({gpu}): "
            f"error {status}, {said}",
            hint=f"a newer driver may; or compile the model again with `--target {target}`",
        )
    driver.cuModuleUnload(loaded)
