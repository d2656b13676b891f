"""Turns the scratch memory that kernels ask TVM for into memory that a graph keeps.

TVM gives it from a pool, which gives a block back to the GPU when it is asked for a larger one. The
kernels of a graph would go on to write there: while a graph is captured, the calls of compiled code
come here.
"""

from __future__ import annotations

import ctypes
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingot.errors import IngotError
from ingot.runtime.cuda.driver import CUDA, DeviceBuffer

# (device_type, device_id, num_bytes, dtype's code, its bits) -> pointer
_ALLOCATE = ctypes.CFUNCTYPE(
    ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_uint64, ctypes.c_int, ctypes.c_int
)
# (device_type, device_id, pointer) -> status
_FREE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
# Where a compiled library keeps the addresses of TVM's functions.
_ALLOCATE_NAME, _FREE_NAME = "__TVMBackendAllocWorkspace", "__TVMBackendFreeWorkspace"
# A library has these places once, whichever engines use it.
_PLACES = threading.Lock()


class Scratch:
    """Blocks that are used again for requests of the same size. A second run of the same requests
    therefore needs no more than the first has left, and gets them in the same order."""

    def __init__(self) -> None:
        self._blocks: dict[int, DeviceBuffer] = {}  # by their pointers
        self._sizes: dict[int, int] = {}
        self._free: defaultdict[int, list[int]] = defaultdict(list)
        self._error: IngotError | None = None

    @property
    def num_bytes(self) -> int:
        return sum(self._sizes.values())

    @contextmanager
    def serves(self, code_path: Path) -> Iterator[None]:
        """Within, what this thread runs of the library takes its scratch memory from here. One
        thread at a time."""
        with _PLACES:
            yield from self._serve(code_path)

    def _serve(self, code_path: Path) -> Iterator[None]:
        library = ctypes.CDLL(str(code_path.resolve()))  # the one that is loaded already
        try:
            names = _ALLOCATE_NAME, _FREE_NAME
            places = [ctypes.c_void_p.in_dll(library, name) for name in names]
        except ValueError:  # a library whose kernels need none has no such places
            yield
            return
        before = [place.value for place in places]
        # TVM's own serve other threads, and the host.
        tvm_allocate, tvm_free = _ALLOCATE(before[0] or 0), _FREE(before[1] or 0)
        owner = threading.get_ident()

        def is_ours(device_type: int) -> bool:
            return device_type == CUDA and threading.get_ident() == owner

        def allocate(kind: int, device: int, num_bytes: int, code: int, bits: int) -> int | None:
            if is_ours(kind):
                return self._take(num_bytes)
            given: int | None = tvm_allocate(kind, device, num_bytes, code, bits)
            return given

        def free(kind: int, device: int, pointer: int) -> int:
            if is_ours(kind):
                self._free[self._sizes[pointer]].append(pointer)
                return 0
            return int(tvm_free(kind, device, pointer))

        functions = _ALLOCATE(allocate), _FREE(free)
        for place, function in zip(places, functions, strict=True):
            place.value = ctypes.cast(function, ctypes.c_void_p).value
        try:
            yield
        except RuntimeError as error:
            # What compiled code says of memory that it didn't get is less than we know.
            raise self._error or error from None
        finally:
            for place, value in zip(places, before, strict=True):
                place.value = value

    def _take(self, num_bytes: int) -> int | None:
        """A block, or nothing where the GPU has no more: an error can't pass compiled code."""
        if self._free[num_bytes]:
            return self._free[num_bytes].pop()
        try:
            block = DeviceBuffer(num_bytes)
        except IngotError as error:
            self._error = error
            return None
        self._blocks[block.pointer] = block
        self._sizes[block.pointer] = num_bytes
        return block.pointer
