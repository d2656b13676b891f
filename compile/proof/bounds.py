"""How far a compiled model may be from eager, for each scheme, and why."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from ingot.compile.kernels.matmul.spec import FLOAT8_FEATURE
from ingot.runtime.artifact.manifest import SchemeRecord

_NUDGED_FACTOR = 2.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """`best` and `worst` hold each layer to eager that rounds alike (`figures.compare_layers`).

    The others hold the model to eager in plain float32 (`figures.compare`): where weights are
    rounded, no more than that the result is still one of this model.
    """

    best: float
    worst: float
    max_error: float
    kl_mean: float
    greedy_must_match: bool
    reason: str

    def after_nudge(self, name: str, changes: list[float]) -> list[float]:
        """The bound of each layer, which a change of its input in the last bits changes so much.

        In most layers that is next to nothing. Where most tokens have a value that lies on the
        boundary between two roundings, it is what the other choice makes of them.
        """
        floor = getattr(self, name)
        return [float(f"{max(floor, _NUDGED_FACTOR * change):.3g}") for change in changes]

    def record(self) -> dict[str, float]:
        """What the manifest keeps of them."""
        figures: dict[str, Any] = asdict(self)
        return {name: figures[name] for name in ("max_error", "kl_mean")}


BOUNDS: dict[str, Bounds] = {
    "f32": Bounds(
        best=1e-5,
        worst=1e-4,
        max_error=1e-4,
        kl_mean=1e-5,
        greedy_must_match=True,
        reason="only the order of float32 sums differs: some 1e-6 a layer over tens of layers",
    ),
    "f16": Bounds(
        best=1e-4,
        worst=4e-3,
        max_error=0.05,
        kl_mean=0.02,
        greedy_must_match=False,
        reason="sums that differ in their last bits may round to float16 neighbours, 2^-11 apart, "
        "in cache and, on a GPU, activations: in some tokens, not in all",
    ),
    "bf16": Bounds(
        best=1e-4,
        worst=0.02,
        max_error=0.1,
        kl_mean=0.05,
        greedy_must_match=False,
        reason="the same with bfloat16's 2^-8, in the cache and, where a CPU multiplies pairs of "
        "them or a GPU's tensor cores do, in activations, queries and softmax weights",
    ),
    "w8": Bounds(
        best=1e-4,
        worst=0.03,
        max_error=0.5,
        kl_mean=0.5,
        greedy_must_match=False,
        reason="the same with steps of 1/127 of a group's largest activation; a flip in an early "
        "linear of a layer makes the later ones flip too, until all are an independent rounding: "
        "up to 0.02 was seen",
    ),
    "f8": Bounds(
        best=1e-4,
        worst=0.03,
        max_error=1.5,
        kl_mean=5.0,
        greedy_must_match=False,
        reason="activations as in bf16; weights in steps of 1/8 of themselves or less, which "
        "random ones hardly survive",
    ),
    "w4": Bounds(
        best=1e-4,
        worst=0.03,
        max_error=1.5,
        kl_mean=5.0,
        greedy_must_match=False,
        reason="as w8; weights in steps of 1/8 of a group's largest value, and random ones, unlike "
        "trained ones, hardly survive that",
    ),
}

FLOAT8_PRODUCTS = Bounds(
    best=0.06,
    worst=0.15,
    max_error=1.5,
    kl_mean=5.0,
    greedy_must_match=False,
    reason="of products of 8-bit floats some 13 bits are added up, so inputs of the next linear "
    "differ by 2^-13 and some fall to the other side of a step of 1/8: after four linears all "
    "tokens of a wide model are an independent rounding. Noise of 2^-11 on the sums made 0.04 in "
    "the best quarter and 0.07 in the worst token; 0.1 was seen in a tiny model",
)
"""Where tensor cores multiply `f8` weights by activations of 8 bits."""

_SCHEME_OF = {
    "f32": "f32",
    "bf16": "bf16",
    "f16": "f16",
    "q8": "w8",
    "q6": "w4",
    "q8_g32": "w8",
    "q4_s128": "w4",
    "f8": "f8",
}
"""Which scheme's bounds a tensor kept in this format asks for."""


def bounds_for(scheme: SchemeRecord, features: Collection[str] = ()) -> Bounds:
    """The bounds of a scheme, or of the roughest format that its user keeps a tensor in, on a
    target with these features."""
    names = [scheme.name, *(_SCHEME_OF[code] for code in scheme.keep.values())]
    if "f8" in names and FLOAT8_FEATURE in features:
        return FLOAT8_PRODUCTS
    return max((BOUNDS[name] for name in names), key=lambda bounds: bounds.max_error)
