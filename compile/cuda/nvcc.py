"""CUDA C++ to a cubin by the nvcc of an installed CUDA toolkit."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from ingot.compile.cuda.binary import DeviceBinary, parse_resources
from ingot.errors import CompileError


def check_installed() -> str:
    """Where nvcc is."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise CompileError(
            "there is no nvcc on the PATH",
            "leave out `--cuda-compiler nvcc` to compile with NVRTC, which needs no toolkit",
        )
    return nvcc


def compile_source(source: str, arch: str) -> DeviceBinary:
    """Compile for `arch` (`sm_90`); `CompileError` where nvcc is missing or refuses the source."""
    nvcc = check_installed()
    with tempfile.TemporaryDirectory() as folder:
        # nvcc puts the name of its input into the cubin: run in the folder, by a fixed name.
        (Path(folder) / "kernels.cu").write_text(source, encoding="utf-8")
        options = ["-cubin", "-keep", f"-arch={arch}", "-std=c++17", "-w", "-Xptxas=-v"]
        done = subprocess.run(
            [nvcc, *options, "-o", "kernels.cubin", "kernels.cu"],
            cwd=folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        log = done.stderr + done.stdout
        if done.returncode:
            first = next((line for line in log.splitlines() if "error" in line), "no reason given")
            raise CompileError(f"nvcc can't compile the kernels for {arch}: {first}")
        cubin = (Path(folder) / "kernels.cubin").read_bytes()
        ptx = (Path(folder) / "kernels.ptx").read_bytes()
    return DeviceBinary(cubin, ptx, parse_resources(log))
