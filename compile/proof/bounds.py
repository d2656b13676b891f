"""How far a compiled model may be from eager float32, for each scheme, and why."""

from __future__ import annotations

from dataclasses import dataclass

from ingot.runtime.artifact.manifest import SchemeRecord


@dataclass(frozen=True, slots=True)
class Bounds:
    """Upper limits on the figures of `figures.compare`."""

    max_error: float
    kl_mean: float
    greedy_must_match: bool
    reason: str


BOUNDS: dict[str, Bounds] = {
    "f32": Bounds(
        1e-4,
        1e-5,
        True,
        "only the order of float32 sums differs: some 1e-6 a layer over tens of layers",
    ),
    "bf16": Bounds(
        0.05,
        0.02,
        False,
        "weights, the cache and, where a CPU multiplies pairs of them or a GPU's tensor cores do, "
        "activations keep 8 bits of mantissa (the weights of checkpoints in bfloat16 lose nothing)",
    ),
    "f16": Bounds(
        0.02, 0.01, False, "weights, cache and, on a GPU, activations keep 11 bits of mantissa"
    ),
    "w8": Bounds(
        0.15,
        0.05,
        False,
        "weights and activations in steps of 1/127 of a group's largest value; on a GPU "
        "activations keep 8 bits of mantissa",
    ),
    "w4": Bounds(
        0.6, 0.6, False, "weights in steps of 1/8 of a group's largest value, round to nearest"
    ),
}

_SCHEME_OF = {
    "f32": "f32",
    "bf16": "bf16",
    "f16": "f16",
    "q8": "w8",
    "q8_g32": "w8",
    "q4_s128": "w4",
}
"""Which scheme's bounds a tensor kept in this format asks for."""


def bounds_for(scheme: SchemeRecord) -> Bounds:
    """The bounds of a scheme, or of the roughest format that its user keeps a tensor in."""
    names = [scheme.name, *(_SCHEME_OF[code] for code in scheme.keep.values())]
    return max((BOUNDS[name] for name in names), key=lambda bounds: bounds.max_error)
