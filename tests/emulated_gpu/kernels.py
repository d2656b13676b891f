"""A CUDA `PrimFunc` to a function on arrays, run by the emulated GPU in a process of its own."""

from __future__ import annotations

import atexit
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ingot.targets import Target
from tests.emulated_gpu.emulator import build_driver, compile_source, environment

ROOT = Path(__file__).resolve().parents[2]
# A GPU may run blocks, and threads between barriers, in any order: results are the same bits.
ORDERS = ("forward", "backward", "1")


class Gpu:
    """The process and the folder of what it runs."""

    def __init__(self) -> None:
        self._scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self._scratch.name)
        self._errors = (self.folder / "errors").open("w+b")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.emulated_gpu.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=ROOT,
            env=environment(build_driver(self.folder)),
        )
        self.num_libraries = 0
        atexit.register(self.close)

    def run(self, *job: Any) -> list[np.ndarray]:
        assert self._process.stdin and self._process.stdout
        pickle.dump(job, self._process.stdin)
        self._process.stdin.flush()
        try:
            answer = pickle.load(self._process.stdout)
        except EOFError:  # a kernel was wrong; the next one finds another GPU
            start_gpu.cache_clear()
            self._errors.seek(0)
            answer = self._errors.read().decode()
        assert not isinstance(answer, str), answer
        return list(answer)

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._errors.close()
        self._scratch.cleanup()


@cache
def start_gpu() -> Gpu:
    """One process for all tests of this one."""
    return Gpu()


def compile_cuda_kernel(function: Any, target: Target) -> Callable[..., list[np.ndarray]]:
    """Compile a PrimFunc; calling it on arrays returns them all as they are after the call."""
    import tvm

    from ingot.compile.build import tvm_target
    from ingot.compile.cuda.device_code import captured
    from ingot.compile.fast_inspect import fast_inspect

    gpu, name = start_gpu(), str(function.attrs["global_symbol"])
    with fast_inspect(), captured() as device:
        host = tvm.tirx.build(tvm.IRModule({name: function}), tvm_target(target))
    gpu.num_libraries += 1
    library = gpu.folder / f"host-{gpu.num_libraries}.so"
    host.export_library(str(library))
    cubin = compile_source(device.source, gpu.folder).cubin
    launches = device.metadata()

    def call(*arrays: np.ndarray) -> list[np.ndarray]:
        job = (str(library), launches, cubin, name)
        results = [start_gpu().run(*job, order, list(arrays)) for order in ORDERS]
        for order, others in zip(ORDERS, results, strict=True):
            for one, other in zip(results[0], others, strict=True):
                assert one.tobytes() == other.tobytes(), f"{name} differs {order}"
        return results[0]

    return call
