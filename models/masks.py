"""Turns the mask closures of transformers into numbers: causal, window, chunk. Never into a tensor.

`transformers.masking_utils` composes a mask from small functions and hands the composition to the
mask interface. Each function of known meaning is read here; any other is refused, never guessed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ingot.models.unsupported import unsupported


@dataclass(frozen=True, slots=True)
class MaskSpec:
    """What a query may look at. It stands where models expect a mask tensor."""

    ndim: ClassVar[int] = 0
    """Models that add a bias to masks do so where a mask has four dimensions."""

    causal: bool = False
    window: int = 0
    chunk: int = 0

    def __getitem__(self, _: object) -> "MaskSpec":
        """Models cut masks to the number of keys; there is nothing to cut."""
        return self

    def to(self, *_: object, **__: object) -> "MaskSpec":
        """Models cast masks to their dtype and device."""
        return self


# Functions that carry no restriction of their own: the runtime keeps sequences apart.
_NEUTRAL = frozenset({"bidirectional_mask_function", "packed_sequence_mask_function"})
# Functions that pass on the one in their closure.
_WRAPPERS = frozenset({"remap_positions_for_packed_sequence", "add_offsets_to_mask_function"})


def _closure(function: Callable[..., Any]) -> dict[str, Any]:
    cells = function.__closure__ or ()
    return {
        name: cell.cell_contents
        for name, cell in zip(function.__code__.co_freevars, cells, strict=True)
    }


def read_mask(function: Callable[..., Any], spec: MaskSpec = MaskSpec()) -> MaskSpec:
    """`spec` narrowed by what `function`, a closure of transformers.masking_utils, allows."""
    kind = getattr(function, "__qualname__", repr(function)).split(".")[0]
    if kind == "causal_mask_function":
        return replace(spec, causal=True)
    if kind in _NEUTRAL:
        return spec
    if kind in _WRAPPERS:
        return read_mask(_closure(function)["mask_function"], spec)
    if kind == "and_masks":
        for part in _closure(function)["mask_functions"]:
            spec = read_mask(part, spec)
        return spec
    if kind in ("sliding_window_overlay", "sliding_window_bidirectional_overlay"):
        return replace(spec, window=int(_closure(function)["sliding_window"]))
    if kind == "chunked_overlay":
        return replace(spec, chunk=int(_closure(function)["chunk_size"]))
    raise unsupported(f"attention mask made by `{kind}`")


def mask_interface(*_: object, mask_function: Callable[..., Any], **__: object) -> MaskSpec:
    """Entry of transformers' AttentionMaskInterface."""
    return read_mask(mask_function)
