"""Turns mapped weights into memory of the GPU: by two pinned buffers, one filled while the other
is copied. Several threads fill one: one alone neither keeps a disk busy, which it waits for page by
page, nor copies as fast as a GPU reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.runtime.cuda.driver import HOST_TO_DEVICE, Event, PinnedBuffer, Stream, copy_async

STAGING_BYTES = 32 << 20
MAX_FILLERS = 8
LEAST_SHARED_BYTES = 1 << 20  # what less takes is no longer than handing it out

OnProgress = Callable[[int, int], None]
"""Called with the bytes that are on their way and those of all weights."""


class _Staging:
    """A pinned buffer, and when the GPU has read it."""

    def __init__(self, num_bytes: int) -> None:
        self.buffer = PinnedBuffer(num_bytes)
        self.is_read = Event(is_timed=False)


def upload(
    arrays: Sequence[NDArray[Any]],
    tensors: Sequence[Any],
    on_progress: OnProgress | None = None,
    staging_bytes: int = STAGING_BYTES,
) -> None:
    """Copy each array into the tensor beside it; all are there on return."""
    total_bytes = sum(array.nbytes for array in arrays)
    stagings = [_Staging(staging_bytes) for _ in range(2)]
    stream = Stream()
    done_bytes = turn = 0
    with _fillers() as fill:
        for array, tensor in zip(arrays, tensors, strict=True):
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            for start in range(0, data.size, staging_bytes):
                piece = data[start : start + staging_bytes]
                staging = stagings[turn % 2]
                staging.is_read.wait()
                fill(staging.buffer.array, piece)
                to = tensor.data_ptr() + start
                copy_async(to, staging.buffer.pointer, piece.size, HOST_TO_DEVICE, stream)
                staging.is_read.record(stream)
                turn += 1
                done_bytes += piece.size
                if on_progress is not None:
                    on_progress(done_bytes, total_bytes)
    stream.wait()


@contextmanager
def _fillers() -> Iterator[Callable[[NDArray[np.uint8], NDArray[np.uint8]], None]]:
    """What copies bytes to the beginning of others, by several threads."""
    number = min(MAX_FILLERS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(number, thread_name_prefix="ingot-weights") as threads:

        def fill(to: NDArray[np.uint8], data: NDArray[np.uint8]) -> None:
            pieces = 1 if data.size < LEAST_SHARED_BYTES else number
            tos, parts = np.array_split(to[: data.size], pieces), np.array_split(data, pieces)
            list(threads.map(np.copyto, tos, parts))

        yield fill
