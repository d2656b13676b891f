"""Swap `inspect.stack` for a cheap frame walk while TVMScript functions are parsed.

TVM's parser calls `inspect.stack()` once a function, and the standard one runs
`inspect.getmodule` over all of `sys.modules` for every frame: seconds when torch is loaded.
"""

from __future__ import annotations

import inspect
import linecache
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# The parser's `is_defined_in_class` reads the source line of the frames nearest to the decorator.
NUM_FRAMES_WITH_SOURCE = 6


def walk_stack(context: int = 1) -> list[inspect.FrameInfo]:
    """List the caller's frames as `inspect.stack` does, with source lines for the nearest few."""
    frame = sys._getframe(1)
    frames: list[inspect.FrameInfo] = []
    while True:
        lines = None
        if context and len(frames) < NUM_FRAMES_WITH_SOURCE:
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
            lines = [line] if line else None
        frames.append(
            inspect.FrameInfo(
                frame,
                frame.f_code.co_filename,
                frame.f_lineno,
                frame.f_code.co_name,
                lines,
                0 if lines else None,
            )
        )
        if frame.f_back is None:
            return frames
        frame = frame.f_back


@contextmanager
def fast_inspect() -> Iterator[None]:
    """Within the block `inspect.stack()` is `walk_stack()`; what was there before returns after it.

    It is a patch of the standard library for the whole process: hold it only while parsing.
    """
    standard = inspect.stack
    inspect.stack = walk_stack
    try:
        yield
    finally:
        inspect.stack = standard
