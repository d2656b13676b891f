"""NVRTC and nvcc: a cubin without a GPU, the same bytes twice, and what is said where they lack."""

import importlib.util
import shutil
import sys

import pytest

from ingot.compile.cuda import COMPILERS, KernelResources, cuda_compiler
from ingot.errors import CompileError, UsageError

SOURCE = """
#ifdef __CUDACC_RTC__
#include <cuda/std/cstdint>
#endif
#include <cuda_fp16.h>
extern "C" __global__ void scale_kernel(float *x, half *y) {
  __shared__ float kept[32];
  kept[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = (half)kept[31 - threadIdx.x];
}
"""


def need(compiler: str) -> None:
    if compiler == "nvcc" and shutil.which("nvcc") is None:
        pytest.skip("no CUDA toolkit is installed")
    if compiler == "nvrtc" and importlib.util.find_spec("cuda") is None:
        pytest.skip("the extra `nvrtc` is not installed")


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_cubin_and_its_kernels(compiler: str) -> None:
    need(compiler)
    compile_source = cuda_compiler(compiler)
    first, second = (compile_source(SOURCE, "sm_90") for _ in range(2))
    assert first == second
    assert b".target sm_90" in first.ptx
    assert first.cubin.startswith(b"\x7fELF") and b"scale_kernel" in first.cubin
    (kernel,) = first.kernels
    assert kernel == KernelResources("scale_kernel", kernel.registers, 128, 0)
    assert compile_source(SOURCE, "sm_80").cubin != first.cubin


@pytest.mark.parametrize("compiler", COMPILERS)
def test_wrong_source_is_one_sentence(compiler: str) -> None:
    need(compiler)
    with pytest.raises(CompileError, match="can't compile the kernels for sm_90: .*error.*lacking"):
        cuda_compiler(compiler)('extern "C" __global__ void f() { lacking(); }', "sm_90")


def test_without_nvrtc_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(CompileError, match=r"needs NVRTC(.|\n)*pip install 'ingot\[nvrtc\]'"):
        cuda_compiler("nvrtc")(SOURCE, "sm_90")


def test_without_nvcc_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CompileError, match="no nvcc on the PATH"):
        cuda_compiler("nvcc")(SOURCE, "sm_90")


def test_unknown_compiler() -> None:
    with pytest.raises(UsageError, match="'clang'; it is one of nvrtc, nvcc"):
        cuda_compiler("clang")
