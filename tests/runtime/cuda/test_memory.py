"""Memory on a GPU, with the emulated driver in a process of its own."""

from pathlib import Path

from tests.emulated_gpu.emulator import build_driver, run_emulated

CHECK = """
import numpy as np
from ingot.runtime.cuda import CudaMemory
from ingot.runtime.cuda.packed import NUM_TURNS, DeviceView
from tests.emulated_gpu.counts import read_counts
memory = CudaMemory()
matrix = np.arange(6, dtype=np.float32).reshape(3, 2)
held = memory.hold(matrix)
np.testing.assert_array_equal(memory.read(held), matrix)
copied = memory.copy(held)
memory.copy_rows(held, [(2, 0)])
np.testing.assert_array_equal(memory.read(copied), matrix)
np.testing.assert_array_equal(memory.read(held), matrix[[2, 1, 2]])
first = memory.lend([np.arange(5, dtype=np.int32), np.zeros((0,), np.float32), matrix.T])
assert [tuple(t.shape) for t in first] == [(5,), (0,), (2, 3)]
np.testing.assert_array_equal(memory.read(first[2]), matrix.T)
before = read_counts()
lent = [memory.lend([np.full(3, turn), matrix + turn]) for turn in range(NUM_TURNS)]
counts = read_counts() - before
assert counts.copies_in == NUM_TURNS and counts.waits == counts.launches == 0, counts
for turn, (numbers, shifted) in enumerate(lent):  # none was overwritten before it was copied
    np.testing.assert_array_equal(memory.read(numbers), [turn] * 3)
    np.testing.assert_array_equal(memory.read(shifted), matrix + turn)
longer = memory.lend([np.arange(500, dtype=np.int32)])
np.testing.assert_array_equal(memory.read(longer[0]), np.arange(500))
assert memory.read(memory.empty((2, 3), np.uint16)).shape == (2, 3)
row = DeviceView(held.data_ptr() + 8, (1, 2), np.dtype(np.float32))
np.testing.assert_array_equal(memory.read(row.tensor), matrix[1:2])
print("ok")
"""


def test_memory(tmp_path: Path) -> None:
    assert run_emulated(build_driver(tmp_path), CHECK) == "ok\n"
