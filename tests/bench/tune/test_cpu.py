"""What is searched for a target, around what its kernels take by themselves."""

import pytest

from ingot.bench.tune.cpu import guessed_rows
from ingot.targets import load_targets


@pytest.mark.parametrize(
    ("target_name", "rows"), [("cpu:x86-64-v3", 2), ("cpu:znver4", 6), ("cpu:neoverse-v1", 5)]
)
def test_the_guess_is_that_of_the_tiles_that_multiply(target_name: str, rows: int) -> None:
    """Registers over two sets of sums in two vectors, beside what the instructions need."""
    assert guessed_rows(load_targets()[target_name]) == rows
