"""Cases to a folder that a machine with a GPU runs without a compiler.

For each kernel: `NN.so` (host code), `NN-sm_XX.cubin`, `NN.json` (launches) and `NN-M.npy` for each
array of its calls; `cases.json` lists them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ingot.bench.gpu_check.case import Array, Case, Inputs
from ingot.bench.gpu_check.cases import make_cases
from ingot.bench.gpu_check.random_values import RandomArray
from ingot.bench.gpu_kernels.write import write_kernels
from ingot.compile.cuda import Compile
from ingot.compile.kernels import build_kernel
from ingot.targets import Target

CASES_NAME = "cases.json"


def write_cases(
    folder: Path,
    target: Target,
    compile_source: Compile,
    *,
    small: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Write the folder, which must not be there. Small cases are timed without regard to caches."""
    folder.mkdir(parents=True)
    records = []
    for number, case in enumerate(make_cases(target, small=small)):
        report(f"compiling {case.name}")
        records.append(_write(folder, f"{number:02d}", case, target, compile_source))
    cache_bytes = 0 if small else target.l2_bytes
    table = {"archs": target.archs, "cache_bytes": cache_bytes, "cases": records}
    (folder / CASES_NAME).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def _write(
    folder: Path, prefix: str, case: Case, target: Target, compile_source: Compile
) -> dict[str, Any]:
    function = build_kernel(case.operator, case.spec, target)
    name = str(function.attrs["global_symbol"])
    write_kernels(folder, prefix, {name: function}, target, compile_source)
    written: dict[int, str] = {}

    def store(array: Array) -> str:
        """The file of an array, once for all calls that have it."""
        if id(array) not in written:
            written[id(array)] = file = f"{prefix}-{len(written)}.npy"
            np.save(folder / file, array)
        return written[id(array)]

    calls = [_describe(call, store) for call in case.inputs]
    return {"name": case.name, "prefix": prefix, "function": name, "calls": calls}


def _describe(call: Inputs, store: Callable[[Array], str]) -> dict[str, Any]:
    """A call's row of the table; an array is a file, or what is drawn when the call is made."""
    return {
        "label": call.label,
        "arrays": [asdict(a) if isinstance(a, RandomArray) else store(a) for a in call.arrays],
        "expected": [store(out) for out in call.expected],
        "outs": call.outs,
        "operations": call.operations,
        "bytes": call.num_bytes,
        "bound": call.bound,
    }
