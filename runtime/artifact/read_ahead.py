"""Turns files into arrays that lie in the system's cache, and fills that in the background."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def map_file(path: Path) -> Bytes:
    """The file's bytes where the system caches them, writable but private to this process.

    What is read from now on is cached in huge pages, where the file system can: a step reads all
    weights, and would wait for the translation of addresses for every 4 KiB of them.
    """
    with path.open("rb") as stream:
        if not path.stat().st_size:  # of which nothing can be mapped
            return np.empty(0, np.uint8)
        pages = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a system that has none
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8)


def read_ahead(files: Sequence[Bytes]) -> threading.Thread:
    """Touch every page of mapped files that will be used whole, in their order.

    The first step then finds its weights in memory, or meets them on their way, where it would wait
    for the disk at one page after the other. Where they are in memory already, it is spared the
    page faults.
    """

    def touch() -> None:
        for data in files:
            data[:: mmap.PAGESIZE].max(initial=0)  # NumPy lets Python run on meanwhile

    thread = threading.Thread(target=touch, name="ingot-read-ahead", daemon=True)
    thread.start()
    return thread
