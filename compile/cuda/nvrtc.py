"""CUDA C++ to a cubin by NVRTC, in this process, from the wheels of the extra `nvrtc`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ingot.compile.cuda.binary import DeviceBinary, parse_resources
from ingot.errors import CompileError

HINT = "pip install 'ingot[nvrtc]', or use an installed CUDA toolkit with `--cuda-compiler nvcc`"


def check_installed() -> None:
    """The library and the headers, of which one may be there without the other."""
    _load()
    _include_folders()


def compile_source(source: str, arch: str) -> DeviceBinary:
    """Compile for `arch` (`sm_90`); `CompileError` where NVRTC is missing or refuses the source."""
    nvrtc = _load()
    folders = [str(folder).encode() for folder in _include_folders()]
    options = [
        f"--gpu-architecture={arch}".encode(),
        b"--std=c++17",
        b"--disable-warnings",
        b"--ptxas-options=-v",
        *(b"--include-path=" + folder for folder in folders),
    ]
    program = _check(nvrtc, nvrtc.nvrtcCreateProgram(source.encode(), b"kernels.cu", 0, [], []))
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        size = _check(nvrtc, nvrtc.nvrtcGetProgramLogSize(program))
        text = b" " * size
        _check(nvrtc, nvrtc.nvrtcGetProgramLog(program, text))
        log = text.decode(errors="replace").rstrip("\0 ")
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise CompileError(f"NVRTC can't compile the kernels for {arch}: {_first_error(log)}")
        cubin = b" " * _check(nvrtc, nvrtc.nvrtcGetCUBINSize(program))
        _check(nvrtc, nvrtc.nvrtcGetCUBIN(program, cubin))
        ptx = b" " * _check(nvrtc, nvrtc.nvrtcGetPTXSize(program))
        _check(nvrtc, nvrtc.nvrtcGetPTX(program, ptx))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return DeviceBinary(cubin, ptx.rstrip(b"\0"), parse_resources(log))


def _load() -> Any:
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()  # the library itself is opened by the first call
    except (ImportError, RuntimeError) as error:
        raise CompileError(f"compiling for a GPU needs NVRTC, which {_lack(error)}", HINT) from None
    return nvrtc


def _lack(error: Exception) -> str:
    first = str(error).strip().splitlines()
    return f"can't be loaded ({first[0] if first else type(error).__name__})"


def _include_folders() -> tuple[Path, ...]:
    """Where the wheels put CUDA's headers and those of its C++ standard library."""
    spec = find_spec("nvidia.cu13") if find_spec("nvidia") else None
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "include"
        if (folder / "cuda_fp16.h").is_file() and (folder / "cccl").is_dir():
            return folder, folder / "cccl"
    raise CompileError("compiling for a GPU needs CUDA's headers, which are not installed", HINT)


def _check(nvrtc: Any, result: tuple[Any, ...]) -> Any:
    status, *values = result
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise CompileError(f"NVRTC failed: {nvrtc.nvrtcGetErrorString(status)[1].decode()}")
    return values[0] if values else None


def _first_error(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else "no log")
