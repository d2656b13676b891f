"""NVRTC and nvcc: a cubin without a GPU, the same bytes twice, and what is said where they lack."""

import importlib.util
import shutil
import sys

import pytest

from ingot.compile.cuda import (
    COMPILERS,
    DeviceBinary,
    KernelResources,
    compile_without_spills,
    cuda_compiler,
)
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
        cuda_compiler("nvrtc")


def test_without_nvcc_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CompileError, match="no nvcc on the PATH"):
        cuda_compiler("nvcc")


def test_without_headers_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    need("nvrtc")
    monkeypatch.setattr("ingot.compile.cuda.nvrtc.find_spec", lambda _: None)
    with pytest.raises(CompileError, match=r"CUDA's headers(.|\n)*pip install 'ingot\[nvrtc\]'"):
        cuda_compiler("nvrtc")


@pytest.mark.parametrize("compiler", COMPILERS)
def test_kernels_that_spill_are_known(compiler: str) -> None:
    """1,024 threads leave 64 registers for each, and 96 sums need more."""
    need(compiler)
    lines = [f"  float sum{i} = x[{i}];" for i in range(96)]
    loop = " ".join(f"sum{i} += sum{(i * 7 + 1) % 96} * x[j + {i}];" for i in range(96))
    lines += [f"  for (int j = 0; j < n; ++j) {{ {loop} }}"]
    lines += [f"  y[{i} * 1024 + threadIdx.x] = sum{i};" for i in range(96)]
    head = 'extern "C" __global__ void __launch_bounds__(1024) crowded_kernel('
    source = head + "const float *x, float *y, int n) {\n" + "\n".join(lines) + "\n}\n"
    (kernel,) = compile_without_spills(cuda_compiler(compiler), source, "sm_90").kernels
    assert (kernel.name, kernel.registers) == ("crowded_kernel", 64)
    assert kernel.spill_bytes > 0


def test_kernels_that_spill_get_more_registers() -> None:
    """Those alone, and the second try is taken only if it spills less."""
    tried = []

    def compile_source(source: str, arch: str) -> DeviceBinary:
        tried.append(source)
        spilled = {1: 8, 2: 4}[len(tried)]
        return DeviceBinary(b"", b"", (KernelResources("a_kernel", 128, 0, spilled),))

    source = "__launch_bounds__(256) a_kernel() __launch_bounds__(256) b_kernel()"
    binary = compile_without_spills(compile_source, source, "sm_90")
    assert tried[1] == "__launch_bounds__(256, 1) a_kernel() __launch_bounds__(256) b_kernel()"
    assert binary.kernels[0].spill_bytes == 4


def test_unknown_compiler() -> None:
    with pytest.raises(UsageError, match="'clang'; it is one of nvrtc, nvcc"):
        cuda_compiler("clang")
