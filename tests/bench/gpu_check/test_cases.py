"""Cases are drawn on the machine that checks them, which has no compiler."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np

from ingot.bench.gpu_check.kernels import largest_error

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


def test_an_output_that_is_no_number_is_the_largest_error() -> None:
    right = [np.zeros(2, np.float32), np.zeros(2, np.float32)]
    found = [np.array([0, 0.5], np.float32), np.array([0, math.nan], np.float32)]
    assert largest_error(right, right) == 0 and largest_error(right, []) is None
    assert largest_error(found[:1], right[:1]) == 0.5
    assert math.isnan(largest_error(found, right) or 0)
