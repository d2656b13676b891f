"""A process with an emulated GPU: kernels and arrays come in by stdin, arrays go out by stdout.

Each job is `(library, launches, cubin, function, order, arrays)`, pickled; the answer is the arrays
as they are after the call, or the error's text. The order is that of `grid.cc`.
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any

from ingot.runtime.cuda import CudaMemory
from ingot.runtime.ffi import tvm_ffi


def run(
    library: str, launches: str, cubin: bytes, function: str, order: str, arrays: list[Any]
) -> list[Any]:
    os.environ["EMULATED_GPU_ORDER"] = order
    memory = CudaMemory()
    module = tvm_ffi.load_module(library)
    table = tvm_ffi.get_global_func("runtime.LoadMetaDataFromJSON")(launches)
    create = tvm_ffi.get_global_func("ffi.Module.create.cuda")
    module.import_module(create(cubin, "cubin", table, {}))
    tensors = [memory.hold(array) for array in arrays]
    module[function](*tensors)
    return [memory.read(tensor) for tensor in tensors]


def serve() -> None:
    jobs, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    while True:
        try:
            job = pickle.load(jobs)
        except EOFError:
            return
        try:
            answer: Any = run(*job)
        except Exception as error:  # all of it is for the test to show
            answer = f"{type(error).__name__}: {error}"
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    serve()
