"""CUDA `PrimFunc`s to `NAME.so` (host code), `NAME-sm_XX.cubin` and `NAME.json` (launches)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm

from ingot.compile.build import tvm_target
from ingot.compile.cuda import Compile, compile_without_spills
from ingot.compile.cuda.device_code import captured
from ingot.compile.fast_inspect import fast_inspect
from ingot.targets import Target


def write_kernels(
    folder: Path, name: str, functions: Mapping[str, Any], target: Target, compile_source: Compile
) -> None:
    """Write one library whose functions have the names of the mapping."""
    module = tvm.IRModule(
        {key: function.with_attr("global_symbol", key) for key, function in functions.items()}
    )
    with fast_inspect(), captured() as device:
        host = tvm.tirx.build(module, tvm_target(target))
    host.export_library(str(folder / f"{name}.so"))
    (folder / f"{name}.json").write_text(device.metadata(), encoding="utf-8")
    for arch in target.archs:
        binary = compile_without_spills(compile_source, device.source, arch)
        (folder / f"{name}-{arch}.cubin").write_bytes(binary.cubin)
