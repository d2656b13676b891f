"""A module built for a GPU to its host part alone, and the CUDA source that was split off.

TVM would put the source into the shared library and compile it on the machine that runs it. Here it
is taken out on the way: what `relax.build` gives has no device code, and the artifact carries a
cubin beside it, which the runtime attaches.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

_FAST_FUNCTIONS = re.compile(r"\b__((?:exp|exp10|log|log2|log10|sin|cos|tan|tanh|pow)f)\(")
_INTEGER = re.compile(r"T\.int(?:32|64)\((-?\d+)\)")
_INTRINSIC, _FIRST_KERNEL = "ingot_", 'extern "C" __global__'
_COMPUTED = re.compile(r"\bcse_v\d+\b")  # what TVM computes once on the host: no name of ours
_BUILD = "target.build.cuda"
_POSTPROCESS = "tvm_callback_cuda_postproc"
_COMPILE = "tvm_callback_cuda_compile"


@dataclass(frozen=True, slots=True)
class Grid:
    """How a kernel is launched: blocks along x, y and z as expressions of its dimensions, and the
    shared memory that the launch asks for, which the machine code doesn't name."""

    blocks: tuple[str, ...]
    threads: int
    shared_bytes: int


@dataclass(slots=True)
class DeviceCode:
    """CUDA C++ and how its kernels are launched, filled while `captured` is open."""

    source: str = ""
    functions: dict[str, dict[str, Any]] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)

    def metadata(self) -> str:
        """The table of kernels as TVM's runtime reads it."""
        table = {"tvm_version": tvm.__version__, "func_info": self.functions}
        return json.dumps(table, indent=1, sort_keys=True) + "\n"


def with_exact_functions(source: str) -> str:
    """Call `expf` where TVM wrote `__expf`, and so on.

    The error of the fast functions grows with their argument: `__cosf` of a position in the
    thousands, as rotary embeddings take it, has hardly a digit right.
    """
    return _FAST_FUNCTIONS.sub(r"\1(", source)


def with_intrinsics(source: str) -> str:
    """Put the definitions of our own device functions before the kernels that call them."""
    if _INTRINSIC not in source:
        return source
    kernels = source.index(_FIRST_KERNEL)
    text = files("ingot.compile.cuda").joinpath("intrinsics.cuh").read_text("utf-8")
    return f"{source[:kernels]}\n{text}\n{source[kernels:]}"


@contextmanager
def captured() -> Iterator[DeviceCode]:
    """Within, building for CUDA yields no device module; its source is in the result."""
    code = DeviceCode()
    build = tvm.get_global_func(_BUILD)
    # Where TVM finds a driver it compiles at once; what it compiles is thrown away.
    replaced = {_COMPILE: lambda _source: b"", _POSTPROCESS: lambda source, _target: source}
    before = {name: tvm.get_global_func(name, allow_missing=True) for name in replaced}

    def build_nothing(module: tvm.IRModule, target: tvm.target.Target) -> None:
        built = build(module, target)
        assert not code.source, "all device code of a model is one module"
        code.source = with_intrinsics(with_exact_functions(built.inspect_source()))
        code.functions = {
            str(function.attrs["global_symbol"]): _launch_record(function)
            for function in module.functions.values()
        }
        code.grids = {
            str(function.attrs["global_symbol"]): _grid(function)
            for function in module.functions.values()
        }

    for name, function in replaced.items():
        tvm_ffi.register_global_func(name, function, override=True)
    tvm_ffi.register_global_func(_BUILD, build_nothing, override=True)
    try:
        yield code
    finally:
        tvm_ffi.register_global_func(_BUILD, build, override=True)
        for name, original in before.items():
            if original is not None:
                tvm_ffi.register_global_func(name, original, override=True)
            else:
                tvm_ffi.registry.remove_global_func(name)


def _launch_record(function: tirx.PrimFunc) -> dict[str, Any]:
    return {
        "name": str(function.attrs["global_symbol"]),
        "arg_types": [_type_name(parameter) for parameter in function.params],
        "launch_param_tags": [str(tag) for tag in function.attrs["tirx.kernel_launch_params"]],
    }


def _grid(function: tirx.PrimFunc) -> Grid:
    extents: dict[str, Any] = {}
    shared_bytes = _collect_launch(function.body, extents)
    blocks = [extents.get(f"blockIdx.{axis}", 1) for axis in "xyz"]
    threads = [int(extents.get(f"threadIdx.{axis}", 1)) for axis in "xyz"]
    while len(blocks) > 1 and str(blocks[-1]) == "1":
        blocks.pop()
    texts = tuple(_INTEGER.sub(r"\1", str(extent)).replace("T.", "") for extent in blocks)
    texts = tuple(_COMPUTED.sub("?", text) for text in texts)
    return Grid(texts, threads[0] * threads[1] * threads[2], shared_bytes)


def _collect_launch(statement: Any, extents: dict[str, Any]) -> int:
    """Note the launch dimensions and give the bytes of the dynamic shared memory. Both stand at the
    top of a kernel, above any loop or condition."""
    if isinstance(statement, tirx.AttrStmt):
        if statement.attr_key == "thread_extent":
            extents[str(statement.node.thread_tag)] = statement.value
        return _collect_launch(statement.body, extents)
    if isinstance(statement, tirx.SeqStmt):
        return sum(_collect_launch(part, extents) for part in statement.seq)
    if isinstance(statement, tirx.AllocBuffer) and statement.buffer.scope() == "shared.dyn":
        elements = math.prod(int(extent) for extent in statement.buffer.shape)
        return elements * int(tvm_ffi.dtype(str(statement.buffer.dtype)).itemsize)
    return 0


def _type_name(parameter: tirx.Var) -> str:
    name = str(parameter.ty)
    return "handle" if "handle" in name else name.removeprefix("T.")
