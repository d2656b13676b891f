"""What fills the buffers of penalties, masks and log-probabilities, and how much is copied."""

from pathlib import Path

from tests.emulated_gpu.emulator import build_driver, run_emulated

FILL = """
import numpy as np
from ingot.runtime.constraints.masks import Masks
from ingot.runtime.cuda import CudaMemory
from ingot.runtime.cuda.driver import Stream
from ingot.runtime.cuda.wishes import MAX_LISTED, MAX_ROWS, WishBuffers
from ingot.runtime.sampling import NUM_RANKED_FIELDS, PenaltyInputs, Wishes
from tests.emulated_gpu.counts import read_counts

VOCABULARY = 40
memory, stream, buffers = CudaMemory(), Stream(), WishBuffers(VOCABULARY)

def ints(*values): return np.array(values, np.int32)
def floats(*values): return np.array(values, np.float32)
def fill(wishes, copies):
    before = read_counts()
    buffers.fill(wishes, stream)
    assert (read_counts() - before).values() == (0, 0, copies, 0, 0, 0, 0)
    stream.wait()
def read(tensors): return [memory.read(tensor) for tensor in tensors]
def nothing_is_asked(rows):
    offsets, *_ = read(buffers.penalties(rows))
    places, _ = read(buffers.masks(rows))
    assert offsets.tolist() == [0] * (rows + 1) and places.tolist() == [-1] * rows
    assert memory.read(buffers.num_top(rows)).tolist() == [-1] * rows

fill(Wishes(), 1)
nothing_is_asked(4)
penalties = PenaltyInputs(ints(0, 2, 2, 3), ints(5, 6, 39), ints(1, 0, 2), ints(1, 0, 1),
                          floats(0, -2, 3), floats(1, 2, 3), floats(4, 5, 6), floats(7, 8, 9))
bits = np.array([[1, 2, 99], [-1, 3, 99]], np.int32)  # the third word is no token of the model's
masks = Masks((2, 0), bits)
fill(Wishes(penalties, lambda: masks, ints(-1, 0, 20)), 2)
offsets, tokens, counts, seen, bias, *settings = read(buffers.penalties(4))
assert offsets.tolist() == [0, 2, 2, 3, 3]  # the fourth row is padding
assert len(tokens) == MAX_LISTED and tokens[:3].tolist() == [5, 6, 39]
assert counts[:3].tolist() == [1, 0, 2] and seen[:3].tolist() == [1, 0, 1]
assert bias[:3].tolist() == [0, -2, 3]
assert [array[:3].tolist() for array in settings] == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
places, words = read(buffers.masks(4))
assert places.tolist() == [1, -1, 0, -1] and words.shape == (MAX_ROWS, 2)
assert words[:2].tolist() == [[1, 2], [-1, 3]]
assert memory.read(buffers.num_top(4)).tolist() == [-1, 0, 20, -1]
fill(Wishes(masks=lambda: masks), 1)
assert read(buffers.penalties(64))[0].tolist() == [0] * 65
fill(Wishes(), 1)
nothing_is_asked(64)

logits = np.arange(3 * VOCABULARY, dtype=np.float32).reshape(3, VOCABULARY)
buffers.keep(memory.hold(logits), 3, stream)
stream.wait()
np.testing.assert_array_equal(memory.read(buffers.raw(3)), logits)
found = np.zeros((3, NUM_RANKED_FIELDS))
found[1, :4], found[1, 22:24] = (10.0, 7.0, 9.5, 8.0), (30, 4)
buffers.bring(memory.hold(found), 3, stream)
stream.wait()
first, second, third = buffers.read([1, 2, 3], Wishes(num_top=ints(-1, 2, 0)))
assert first is None and third.token_id == 3 and third.top == ()
assert (second.token_id, second.logprob) == (2, -3.0) and second.top == ((30, -0.5), (4, -2.0))
print("ok")
"""


def test_fill(tmp_path: Path) -> None:
    assert run_emulated(build_driver(tmp_path), FILL) == "ok\n"
