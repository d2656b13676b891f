"""Streams, captures and errors, with the emulated driver in a process of its own."""

from pathlib import Path

import pytest

from ingot.errors import IngotError
from ingot.runtime import cuda
from tests.emulated_gpu.emulator import build_driver, run_emulated

CHECK = """
import gc
import pytest
from ingot.errors import IngotError
from ingot.runtime.cuda import free_device_memory_bytes
from ingot.runtime.cuda.driver import DEVICE_TO_HOST, HOST_TO_DEVICE
from ingot.runtime.cuda.driver import Event, PinnedBuffer, Stream, capture, copy_async
assert free_device_memory_bytes() == 1 << 30  # as runtime.c says
stream, first, second = Stream(), PinnedBuffer(8), PinnedBuffer(8)
first.array[:], second.array[:] = 3, 5

def copy(to):
    assert not gc.isenabled()  # what it gave back can't be taken now
    copy_async(second.pointer, first.pointer, 8, HOST_TO_DEVICE, to)
    return "result"

graph, result = capture(copy)
stream.wait()
assert gc.isenabled() and result == "result" and (second.array == 5).all()  # nothing ran yet
for value in (7, 9):
    first.array[:] = value
    graph.launch(stream)
    stream.wait()
    assert (second.array == value).all()
# Memory can't be taken meanwhile, and what comes next is free of it.
with pytest.raises(IngotError, match="cudaMallocHost gave 900"):
    capture(lambda _: PinnedBuffer(8))
capture(copy)
with pytest.raises(IngotError, match="cudaMemcpyAsync gave 906"):  # of the emulated GPU alone
    capture(lambda _: copy_async(second.pointer, first.pointer, 8, DEVICE_TO_HOST, stream))

# What comes after an event isn't waited for with it.
there = Event(is_timed=False)
first.array[:] = 1
copy_async(second.pointer, first.pointer, 8, HOST_TO_DEVICE, stream)
there.record(stream)
copy_async(second.pointer, first.pointer, 8, HOST_TO_DEVICE, stream)
there.wait()
first.array[:] = 2
assert (second.array == 1).all()
stream.wait()
assert (second.array == 2).all()
print("ok")
"""


def test_capture(tmp_path: Path) -> None:
    assert run_emulated(build_driver(tmp_path), CHECK) == "ok\n"


def test_without_the_driver_it_says_so() -> None:
    with pytest.raises(IngotError, match="no NVIDIA driver|CUDA's runtime library"):
        cuda.load_cuda_runtime()
