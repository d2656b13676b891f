"""Files to memory in the background, before the first step asks for them page by page."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

REQUEST_BYTES = 8 << 20  # Linux cuts longer requests down to what it thinks the disk takes


def read_ahead(paths: Sequence[Path]) -> threading.Thread:
    """Have the system read files that will be used whole, in their order, in the background.

    The first step then finds its weights in memory, or meets them on their way, where it would
    wait for the disk at one page after the other.
    """
    descriptors = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths]

    def ask() -> None:
        for descriptor in descriptors:
            try:
                for start in range(0, os.fstat(descriptor).st_size, REQUEST_BYTES):
                    os.posix_fadvise(descriptor, start, REQUEST_BYTES, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(descriptor)

    thread = threading.Thread(target=ask, name="ingot-read-ahead", daemon=True)
    thread.start()
    return thread
