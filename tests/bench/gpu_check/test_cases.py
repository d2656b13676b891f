"""Cases are drawn on the machine that checks them, which has no compiler."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DRAW = """
import sys
sys.modules.update(tvm=None, torch=None)  # so that importing them fails
import numpy as np
import ingot.bench.gpu_check.kernels
from ingot.bench.gpu_check.cases import make_cases
from ingot.targets import load_targets

names = []
for case in make_cases(load_targets()["cuda:sm_90"], small=True):
    names.append(case.name)
    again = case.calls(np.random.default_rng(1))
    for call, twin in zip(case.calls(np.random.default_rng(1)), again, strict=True):
        assert call.expected or call.timed_out_shape, (case.name, call.label)
        for out, same in zip(call.arguments(), twin.arguments(), strict=True):
            np.testing.assert_array_equal(out, same)
assert len(set(names)) == len(names), names
"""


def test_cases_are_drawn_without_a_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", DRAW], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
