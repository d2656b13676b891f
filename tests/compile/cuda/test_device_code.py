"""The source is split off, with the launches' table, exact functions and TVM's hooks put back."""

import json

import tvm
from tvm import tirx

from ingot.compile.build import tvm_target
from ingot.compile.cuda.device_code import captured, with_exact_functions
from ingot.compile.kernels.cuda_ir import for_elements
from ingot.compile.kernels.vector_ir import Expr, T, count, kernel
from ingot.targets import load_targets

HOOKS = ("target.build.cuda", "tvm_callback_cuda_compile", "tvm_callback_cuda_postproc")


def cosine() -> tirx.PrimFunc:
    n = count("n")
    with kernel("cosine") as k:
        x, out = k.argument("x", (n,)), k.argument("out", (n,))

        def emit(i: Expr) -> None:
            T.buffer_store(out, tirx.cos(x[i]), [i])

        for_elements(n, emit)
    return k.function


def test_source_and_table() -> None:
    before = [tvm.get_global_func(name, allow_missing=True) is None for name in HOOKS]
    with captured() as device:
        host = tvm.tirx.build(
            tvm.IRModule({"cosine": cosine()}), tvm_target(load_targets()["cuda:sm_80"])
        )
    assert not host.imports
    assert "cosf(" in device.source and "__cosf(" not in device.source
    assert json.loads(device.metadata())["func_info"] == {
        "cosine_kernel": {
            "name": "cosine_kernel",
            "arg_types": ["handle", "handle", "int64"],
            "launch_param_tags": ["blockIdx.x", "threadIdx.x"],
        }
    }
    after = [tvm.get_global_func(name, allow_missing=True) is None for name in HOOKS]
    assert after == before


def test_only_fast_functions_are_replaced() -> None:
    assert with_exact_functions("__expf(x) + __cosf(y)") == "expf(x) + cosf(y)"
    assert with_exact_functions("__syncthreads(); my__expf(x)") == "__syncthreads(); my__expf(x)"
