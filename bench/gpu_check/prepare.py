"""The cases of a check to a folder that a machine with a GPU runs without a compiler.

For each kernel: `NN.so` (host code), `NN-sm_XX.cubin`, `NN.json` (launches) and, for each call,
`NN-M.npz`; `cases.json` lists them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ingot.bench.gpu_check.cases import Case, make_cases
from ingot.bench.gpu_kernels.write import write_kernels
from ingot.compile.cuda import Compile
from ingot.compile.kernels import build_kernel
from ingot.errors import UsageError
from ingot.targets import Target

CASES_NAME = "cases.json"


def prepare(
    folder: Path,
    target: Target,
    compile_source: Compile,
    *,
    small: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Write the folder; it must not be there."""
    if folder.exists():
        raise UsageError(f"{folder} exists already", "remove it, or name another folder")
    folder.mkdir(parents=True)
    records = []
    for number, case in enumerate(make_cases(target, small=small)):
        report(f"compiling {case.name}")
        records.append(_write(folder, f"{number:02d}", case, target, compile_source))
    table = {"archs": target.archs, "cases": records}
    (folder / CASES_NAME).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def _write(
    folder: Path, prefix: str, case: Case, target: Target, compile_source: Compile
) -> dict[str, Any]:
    function = build_kernel(case.operator, case.spec, target)
    name = str(function.attrs["global_symbol"])
    write_kernels(folder, prefix, {name: function}, target, compile_source)
    calls = []
    for number, inputs in enumerate(case.inputs):
        file = f"{prefix}-{number}.npz"
        np.savez(folder / file, *inputs.arrays, expected=inputs.expected)
        calls.append({"label": inputs.label, "file": file, "bound": inputs.bound})
    return {"name": case.name, "prefix": prefix, "function": name, "calls": calls}
