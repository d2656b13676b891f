"""Turns mapped weights into memory of the GPU: by two pinned buffers, one filled while the other
is copied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.runtime.cuda.driver import HOST_TO_DEVICE, Event, PinnedBuffer, Stream, copy_async

STAGING_BYTES = 32 << 20

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
    for array, tensor in zip(arrays, tensors, strict=True):
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for start in range(0, data.size, staging_bytes):
            piece = data[start : start + staging_bytes]
            staging = stagings[turn % 2]
            staging.is_read.wait()
            staging.buffer.array[: piece.size] = piece
            to = tensor.data_ptr() + start
            copy_async(to, staging.buffer.pointer, piece.size, HOST_TO_DEVICE, stream)
            staging.is_read.record(stream)
            turn += 1
            done_bytes += piece.size
            if on_progress is not None:
                on_progress(done_bytes, total_bytes)
    stream.wait()
