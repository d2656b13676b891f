"""Streams, captures and errors, with the emulated driver in a process of its own."""

from pathlib import Path

import pytest

from ingot.errors import IngotError
from ingot.runtime import cuda
from tests.emulated_gpu.emulator import build_driver, run_emulated

CHECK = """
import pytest
from ingot.errors import IngotError
from ingot.runtime.cuda import free_device_memory_bytes
from ingot.runtime.cuda.driver import DEVICE_TO_HOST, HOST_TO_DEVICE
from ingot.runtime.cuda.driver import PinnedBuffer, Stream, copy_async
assert free_device_memory_bytes() == 1 << 30  # as runtime.c says
stream, first, second = Stream(), PinnedBuffer(8), PinnedBuffer(8)
first.array[:], second.array[:] = 3, 5

def copy():
    copy_async(second.pointer, first.pointer, 8, HOST_TO_DEVICE, stream)
    return "result"

graph, result = stream.capture(copy)
stream.wait()
assert result == "result" and (second.array == 5).all()  # nothing ran yet
for value in (7, 9):
    first.array[:] = value
    graph.launch(stream)
    stream.wait()
    assert (second.array == value).all()
# Memory can't be taken meanwhile, and the stream is free again afterwards.
with pytest.raises(IngotError, match="cudaMallocHost gave 900"):
    stream.capture(lambda: PinnedBuffer(8))
stream.capture(copy)
# The default stream would wait for the one that captures.
with pytest.raises(IngotError, match="cudaMemcpyAsync gave 906"):
    other = Stream()
    stream.capture(lambda: copy_async(second.pointer, first.pointer, 8, DEVICE_TO_HOST, other))
print("ok")
"""


def test_capture(tmp_path: Path) -> None:
    assert run_emulated(build_driver(tmp_path), CHECK) == "ok\n"


def test_without_the_driver_it_says_so() -> None:
    with pytest.raises(IngotError, match="TVM's runtime for CUDA|CUDA's runtime library"):
        cuda.load_cuda_runtime()
