"""Cases to a folder whose kernels a machine with a GPU runs without a compiler.

For each kernel `NN.so` (host code), `NN-sm_XX.cubin` and `NN.json` (launches); `cases.json` names
the cases in this order, and says of which target and size they are: inputs and right answers follow
from these.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ingot.bench.gpu_check.case import CASES_NAME, FUNCTION_NAME
from ingot.bench.gpu_check.cases import make_cases
from ingot.bench.gpu_kernels.write import write_kernels
from ingot.compile.cuda import Compile
from ingot.targets import Target


def write_cases(
    folder: Path,
    target: Target,
    compile_source: Compile,
    *,
    small: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Write the folder, which must not be there."""
    folder.mkdir(parents=True)
    names = []
    for number, case in enumerate(make_cases(target, small=small)):
        report(f"compiling {case.name}")
        functions = {FUNCTION_NAME: case.build(target)}
        write_kernels(folder, f"{number:02d}", functions, target, compile_source)
        names.append(case.name)
    table = {"small": small, "cases": names, "target": asdict(target)}
    (folder / CASES_NAME).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
