"""The memory of compiled functions' tensors: an arena, laid out anew for other dimensions.

A function that takes its memory is called with views of the arena, which its `_views` function
makes. They are kept by the dimensions that they depend on, so that steps which are alike allocate
nothing. What a function gives lies in the arena too: it is valid until the next call.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ingot.errors import IngotError
from ingot.runtime.artifact.manifest import ALLOCATE, VIEWS_SUFFIX
from ingot.runtime.artifact.work import evaluate, symbols_of
from ingot.runtime.ffi import tvm_ffi
from ingot.runtime.vm import VirtualMachine

MAX_LAYOUTS = 64

Dimensions = Mapping[str, int]


class Workspace:
    """The memory of functions of which one runs at a time. `amounts` are the bytes that each takes.

    The arena is as large as steps within `bounds`, the largest value of each dimension, can need:
    of the functions in `planned`, or of all. A larger step makes it grow; it never shrinks. The
    system gives a CPU's memory page by page, as it is written, so what no step has needed costs
    nothing there.
    """

    def __init__(
        self,
        vm: VirtualMachine,
        amounts: Mapping[str, Mapping[str, int]],
        bounds: Dimensions,
        planned: Collection[str] | None = None,
    ) -> None:
        self._vm = vm
        self._amounts = amounts
        self._symbols = {name: symbols_of(amount) for name, amount in amounts.items()}
        self._layouts: dict[tuple[Any, ...], Any] = {}
        self.num_bytes = 0
        names = amounts if planned is None else amounts.keys() & planned
        self._reserve(max((evaluate(amounts[name], bounds) for name in names), default=0))

    def views(self, function: str, dimensions: Dimensions) -> tuple[Any, ...]:
        """The function's last argument; nothing for one that allocates by itself."""
        symbols = self._symbols.get(function)
        if symbols is None:
            return ()
        extents = [dimensions[symbol] for symbol in symbols]
        key = (function, *extents)
        if key not in self._layouts:
            self._reserve(evaluate(self._amounts[function], dimensions))
            if len(self._layouts) >= MAX_LAYOUTS:
                self._layouts.clear()
            shape = tvm_ffi.Shape(extents)
            self._layouts[key] = self._vm.call(function + VIEWS_SUFFIX, shape, self._arena)
        return (self._layouts[key],)

    def _reserve(self, num_bytes: int) -> None:
        if num_bytes > self.num_bytes:
            self._layouts.clear()
            self._arena = None  # given back before the larger one is taken
            self.num_bytes = 0
            try:
                self._arena = self._vm.call(ALLOCATE, tvm_ffi.Shape((num_bytes,)))
            except RuntimeError as error:
                raise IngotError(
                    f"there is no memory for a step's tensors ({num_bytes:,} bytes): {error}",
                    hint="a smaller max_step_tokens or KV cache (num_pages) leaves more",
                ) from None
            self.num_bytes = num_bytes
