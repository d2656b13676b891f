"""Mapped files to memory in the background, before the first step asks for them page by page."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

REQUEST_BYTES = 8 << 20  # Linux cuts longer requests down to what it thinks the disk takes
MADV_POPULATE_READ = 22  # since Linux 5.14; older ones refuse it, and steps map their pages


def read_ahead(files: Mapping[Path, NDArray[Any]]) -> threading.Thread:
    """Have the system read files that will be used whole, in their order, and map their pages.

    `files` are paths and the arrays that they are mapped to. The first step then finds its weights
    in memory, or meets them on their way, where it would wait for the disk at one page after the
    other. Where they are in memory already, it is spared a fault for every sixteen pages.
    """
    descriptors = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in files]

    def ask() -> None:
        for descriptor in descriptors:
            try:
                for start in range(0, os.fstat(descriptor).st_size, REQUEST_BYTES):
                    os.posix_fadvise(descriptor, start, REQUEST_BYTES, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(descriptor)
        for data in files.values():
            map_pages(data)

    thread = threading.Thread(target=ask, name="ingot-read-ahead", daemon=True)
    thread.start()
    return thread


def map_pages(data: NDArray[Any]) -> None:
    """Map the pages of an array that starts at one. Python runs on meanwhile."""
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start in range(0, data.nbytes, REQUEST_BYTES):
        # In parts: the system lets nobody change the process's mappings meanwhile.
        num_bytes = min(REQUEST_BYTES, data.nbytes - start)
        advise(data.ctypes.data + start, num_bytes, MADV_POPULATE_READ)
