"""Files that `write_kernels` wrote to functions on this machine's GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingot.errors import ArtifactTargetError
from ingot.runtime.artifact.machine import detect_cuda_arch, device_code_for
from ingot.runtime.ffi import tvm_ffi


def arch_for_this_gpu(archs: Sequence[str]) -> str:
    """The architecture whose machine code this machine's GPU runs; an error if there is none."""
    gpu = detect_cuda_arch()
    code = None if gpu is None else device_code_for(gpu, archs)
    if code is None or not code.endswith(".cubin"):
        raise ArtifactTargetError(
            f"the kernels are for {', '.join(archs)} GPUs; this machine has {gpu or 'none'}",
            hint="they run on the GPU that they were compiled for",
        )
    return code.removeprefix("kernels-").removesuffix(".cubin")


def load_kernels(folder: Path, name: str, arch: str) -> Any:
    """The library, whose functions are found by their names. CUDA's runtime is loaded before."""
    module = tvm_ffi.load_module(str((folder / f"{name}.so").resolve()))
    read = tvm_ffi.get_global_func("runtime.LoadMetaDataFromJSON")
    create = tvm_ffi.get_global_func("ffi.Module.create.cuda")
    launches = read((folder / f"{name}.json").read_text("utf-8"))
    cubin = (folder / f"{name}-{arch}.cubin").read_bytes()
    module.import_module(create(cubin, "cubin", launches, {}))
    return module


def wait_for_gpu() -> None:
    """Until all that was started is done."""
    ctypes.CDLL(None).cudaDeviceSynchronize()  # of the runtime that is in the process already
