"""Results to what was asked for and what was reached: a row for every bound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ingot.bench.gpu_check.plan import Plan

# By shape and scheme, where it is asked of some.
WEIGHTS_SHARE = {("8b", "bf16"): 0.85, ("8b", "w4"): 0.70}
PREFILL_SHARE = {("8b", "bf16"): 0.60}
START_S = {("8b", "w4"): 10.0}
HOST_US, REST_SHARE, ATTENTION_SHARE, UPLOAD_SHARE = 100.0, 0.10, 0.50, 0.80
PEER_SCHEME = "bf16"  # which other ways run as well
PEERS = {"eager": (3.0, 2.0), "torch-compile": (1.3,)}
"""How many times as fast, at the smallest batch and at the others where they run those."""

PROMPT_LABEL, DECODING_LABEL = "2048 rows, context 2048", "16 rows, context 4096"


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure and what is asked of it, if anything is; `reached` is None if it wasn't measured."""

    what: str
    reached: float | None
    limit: float | None = None
    unit: str = "%"
    is_floor: bool = True

    @property
    def met(self) -> bool | None:
        if self.reached is None or self.limit is None:
            return None
        return self.reached >= self.limit if self.is_floor else self.reached <= self.limit


@dataclass(frozen=True, slots=True)
class Results:
    """The parts' results by their names, with None for whatever is missing on the way."""

    parts: dict[str, dict[str, Any]]

    def get(self, part: str, *path: str) -> Any:
        found: Any = self.parts.get(part, {})
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def kernel(self, name: str, label: str, figure: str) -> Any:
        for call in self.get("kernels", "calls") or []:
            if (call["name"], call["label"]) == (name, label):
                return call[figure]
        return None

    def weights_share(self, shape: str, scheme: str, batch: int) -> float | None:
        """Of what reading the weights at the bandwidth of copies allows."""
        model = f"ingot {shape} {scheme}"
        step_us = self.get(model, "decode", str(batch), "step_us")
        read, copied = self.get(model, "weights_read_bytes"), self.get("limits", "copy_gb_s")
        if None in (step_us, read, copied):
            return None
        return float(read / copied / 1e3 / step_us)

    def times(self, shape: str, scheme: str, batch: int, peer: str) -> float | None:
        """How often the peer's tokens a second."""
        ours = self.get(f"ingot {shape} {scheme}", "decode", str(batch), "tokens_s")
        return ratio(ours, self.get(f"{peer} {shape}", "decode", str(batch), "tokens_s"))

    def peak_share(self, tflops: float | None) -> float | None:
        return ratio(tflops, self.get("limits", "bf16_tflops"))


def ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or whole is None else part / whole


def bounds_of(found: Results, plan: Plan) -> Iterator[Bound]:
    """Each model, then models beside other ways to run them, then what is the same for all."""
    for shape in plan.shapes:
        for scheme in plan.schemes:
            yield from _of_model(found, shape, scheme, min(plan.batches))
        yield from _beside_peers(found, plan, shape)
    for dtype in ("bfloat16", "float16"):
        name = f"attention {dtype}"
        share = found.peak_share(found.kernel(name, PROMPT_LABEL, "tflops"))
        yield Bound(f"{name}, {PROMPT_LABEL}: of the matmul peak", share, ATTENTION_SHARE)
        moved = found.kernel(name, DECODING_LABEL, "gb_s")
        share = ratio(moved, found.get("limits", "copy_gb_s"))
        yield Bound(f"{name}, {DECODING_LABEL}: of copy bandwidth", share)
    load = ratio(found.get("limits", "upload_gb_s"), found.get("limits", "pinned_copy_gb_s"))
    yield Bound("weights in memory to the GPU: of pinned copies", load, UPLOAD_SHARE)


def _of_model(found: Results, shape: str, scheme: str, batch: int) -> Iterator[Bound]:
    model, name, key = f"ingot {shape} {scheme}", f"{shape} {scheme}", (shape, scheme)
    step = f"{name}, a step at batch {batch}"
    share = found.weights_share(shape, scheme, batch)
    yield Bound(f"{step}: of reading its weights at copy bandwidth", share, WEIGHTS_SHARE.get(key))
    beside = found.get(model, "decode", str(batch), "beside_gpu_us")
    yield Bound(f"{step}: beside the GPU's own time", beside, HOST_US, "us", is_floor=False)
    share = found.peak_share(found.get(model, "prefill", "tflops"))
    yield Bound(f"{name}, prefill: of the matmul peak", share, PREFILL_SHARE.get(key))
    rest = found.get(model, "memory", "rest_share")
    yield Bound(f"{name}, memory beside weights and KV", rest, REST_SHARE, is_floor=False)
    start, limit = found.get(model, "start", "first_token_s"), START_S.get(key)
    yield Bound(f"{name}, process start to first token", start, limit, "s", is_floor=False)


def _beside_peers(found: Results, plan: Plan, shape: str) -> Iterator[Bound]:
    least = min(plan.batches)
    for peer, limits in PEERS.items():
        for batch in plan.batches if len(limits) > 1 else (least,):
            reached = found.times(shape, PEER_SCHEME, batch, peer)
            what = f"{shape} {PEER_SCHEME}, decode at batch {batch}: of {peer}"
            yield Bound(what, reached, limits[0 if batch == least else -1], "x")
