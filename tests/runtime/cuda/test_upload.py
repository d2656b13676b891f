"""Weights reach the emulated GPU whole, by two buffers that are waited for."""

from pathlib import Path

from tests.emulated_gpu.emulator import build_driver, run_emulated

CHECK = """
import numpy as np
from ingot.runtime.cuda import CudaMemory
from ingot.runtime.cuda.upload import upload
from tests.emulated_gpu.counts import read_counts
rng, memory = np.random.default_rng(1), CudaMemory()
shapes = [(100,), (101,), (7, 11, 13), (0,), (1,), (99,)]
arrays = [rng.integers(0, 1000, shape).astype(np.int16) for shape in shapes]
arrays.append(arrays[2].T)
tensors = [memory.empty(array.shape, array.dtype) for array in arrays]
calls, before = [], read_counts()
upload(arrays, tensors, lambda *bytes: calls.append(bytes), staging_bytes=200)
counts = read_counts() - before
pieces = sum(-(-array.nbytes // 200) for array in arrays)
total = sum(array.nbytes for array in arrays)
assert counts.copies_in == pieces == len(calls), counts
assert counts.allocations == 2, counts  # the pinned buffers
assert counts.waits <= pieces - 2 + 1, counts  # not for a buffer's first use; one at the end
assert [done for done, _ in calls] == sorted({done for done, _ in calls})
assert calls[-1] == (total, total)
# Several threads fill a buffer with what is large.
arrays.append(rng.integers(0, 1000, 2_000_003).astype(np.int16))
tensors.append(memory.empty(arrays[-1].shape, np.int16))
upload(arrays[-1:], tensors[-1:], staging_bytes=3_000_000)
for array, tensor in zip(arrays, tensors):
    np.testing.assert_array_equal(memory.read(tensor), array)
print("ok")
"""


def test_upload(tmp_path: Path) -> None:
    assert run_emulated(build_driver(tmp_path), CHECK) == "ok\n"
