"""What kernel tests share: targets this machine can run, and PrimFuncs called on NumPy arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ingot.compile.fast_inspect import fast_inspect
from ingot.compile.kernels import build_kernel
from ingot.runtime.amx import allow_tiles
from ingot.targets import Target, best_cpu_target, detect_cpu, load_targets
from tests.emulated_gpu.kernels import compile_cuda_kernel

Compiled = Callable[..., list[np.ndarray]]


@pytest.fixture(scope="session")
def wide_target() -> Target:
    """The best target of this machine."""
    best = best_cpu_target(detect_cpu())
    allow_tiles(best.features)
    return best


@pytest.fixture(scope="session")
def narrow_target() -> Target:
    """The smallest target: other lanes and fewer registers than most machines' best."""
    return load_targets()["cpu:x86-64-v3"]


@pytest.fixture(scope="session")
def gpu_target() -> Target:
    """A GPU, which the tests emulate."""
    return load_targets()["cuda:sm_90"]


@pytest.fixture(scope="session", params=["narrow", "wide", "gpu"])
def target(request: pytest.FixtureRequest) -> Target:
    """The CPUs and the GPU, one after the other."""
    chosen: Target = request.getfixturevalue(f"{request.param}_target")
    return chosen


on_cpus = pytest.mark.parametrize("target", ["narrow", "wide"], indirect=True)
"""Of the targets, the CPUs alone."""


def normal(*shape: int) -> np.ndarray:
    """Normally distributed float32, from the seed that the test was given."""
    return np.random.standard_normal(shape).astype(np.float32)


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy that starts at a 64-byte boundary, as every buffer of an artifact does."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = np.ndarray(array.shape, array.dtype, memory, start)
    copy[...] = array
    return copy


def compile_kernel(function: Any, target: Target) -> Compiled:
    """Compile a PrimFunc; calling it on arrays returns them all as they are after the call."""
    if target.kind == "cuda":
        return compile_cuda_kernel(function, target)
    import tvm

    kind = {"kind": "llvm", "mtriple": target.llvm_triple, "mcpu": target.llvm_cpu}
    with fast_inspect():
        library = tvm.compile(function, target=tvm.target.Target(kind))
    entry = library.mod[function.attrs["global_symbol"]]

    def call(*arrays: np.ndarray) -> list[np.ndarray]:
        copies = [aligned(array) for array in arrays]
        entry(*(tvm.runtime.from_dlpack(copy) for copy in copies))
        return copies

    return call


def in_pairs(pool: np.ndarray) -> np.ndarray:
    """A pool `[slab, rows, columns]` as kernels that multiply pairs of rows hold it."""
    slabs, rows, columns = pool.shape
    pairs = pool.reshape(slabs, rows // 2, 2, columns).swapaxes(2, 3)
    return np.ascontiguousarray(pairs).reshape(pool.shape)


def compile_op(op: str, spec: Any, target: Target) -> Compiled:
    """The operator's kernel for one spec, compiled."""
    return compile_kernel(build_kernel(op, spec, target), target)
