"""Turns every attention call of a model into one `ingot::paged_attention` and numbers its KV slot.

Stands on transformers' AttentionInterface: the function gets q, k, v after RoPE and everything that
variants need as keyword arguments. What isn't known to be harmless is refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from ingot.models import ops  # noqa: F401  (registers torch.ops.ingot)
from ingot.models.masks import MaskSpec
from ingot.models.unsupported import unsupported

NAME = "ingot"
"""Under this name transformers finds the attention and the mask function."""

# Keyword arguments that say nothing about what attention computes.
_HARMLESS = frozenset(
    {
        "cache_position",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "position_embeddings",
        "position_ids",
        "return_dict",
        "use_cache",
    }
)


@dataclass(frozen=True, slots=True)
class KVSlot:
    """One layer's share of the KV cache. `window` is 0 where every position stays visible."""

    kv_heads: int
    key_dim: int
    value_dim: int
    window: int


@dataclass(slots=True)
class Recorder:
    """What one forward pass of a model called, in call order."""

    module_paths: dict[int, str] = field(default_factory=dict)
    logit_rows: Tensor | None = None
    kv_slots: list[KVSlot] = field(default_factory=list)
    _slot_of: dict[tuple[int, int], int] = field(default_factory=dict)
    _alive: list[Tensor] = field(default_factory=list)

    def begin(self, logit_rows: Tensor) -> None:
        """Forget the last pass. In place, for export undoes assignments to modules."""
        self.logit_rows = logit_rows
        self.kv_slots.clear()
        self._slot_of.clear()
        self._alive.clear()

    def path_of(self, module: nn.Module) -> str:
        return self.module_paths.get(id(module), type(module).__name__)

    def kv_slot(self, key: Tensor, value: Tensor, window: int) -> tuple[int, bool]:
        """The slot of these tensors and whether this is their first use.

        The same tensors seen twice mean that layers share a cache. Slots are numbered in call
        order: `layer_idx` has gaps in some families and is absent in others.
        """
        identity = (id(key), id(value))
        known = self._slot_of.get(identity)
        if known is not None:
            self._widen(known, window)
            return known, False
        self._alive += [key, value]  # an id stays unique only while its tensor lives
        self._slot_of[identity] = len(self.kv_slots)
        self.kv_slots.append(KVSlot(key.shape[1], key.shape[3], value.shape[3], window))
        return self._slot_of[identity], True

    def _widen(self, slot: int, window: int) -> None:
        """A shared slot keeps what its widest reader needs."""
        kept = self.kv_slots[slot]
        if kept.window and (window == 0 or window > kept.window):
            self.kv_slots[slot] = KVSlot(kept.kv_heads, kept.key_dim, kept.value_dim, window)


_current_recorder: ContextVar[Recorder | None] = ContextVar("ingot_recorder", default=None)


@contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    """While the context is open, attention calls are noted in `recorder`."""
    token = _current_recorder.set(recorder)
    try:
        yield recorder
    finally:
        _current_recorder.reset(token)


def current_recorder() -> Recorder:
    recorder = _current_recorder.get()
    assert recorder is not None, "captured attention ran outside recording()"
    return recorder


def attention_interface(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: MaskSpec | Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    is_causal: bool | None = None,
    slopes: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Entry of transformers' AttentionInterface; `slopes` comes from our adapters only.

    q [1, H, n, Dk], k [1, Hkv, n, Dk], v [1, Hkv, n, Dv] -> [1, n, H, Dv].
    """
    recorder = current_recorder()
    path = recorder.path_of(module)
    for name, given in others.items():
        if given is not None and name not in _HARMLESS:
            raise unsupported(f"attention argument `{name}`", path)
    if not statically_known_true(key.shape[2] == query.shape[2]):
        raise unsupported(
            f"attention of {query.shape[2]} new tokens over {key.shape[2]} keys of their own", path
        )
    spec = _mask_of(module, attention_mask, sliding_window, is_causal, path)
    if not spec.causal:
        raise unsupported("bidirectional attention", path)
    slot, store = recorder.kv_slot(key, value, spec.window)
    scale = float(scaling) if scaling is not None else float(query.shape[-1]) ** -0.5
    out = torch.ops.ingot.paged_attention(
        query,
        key,
        value,
        s_aux,
        slopes,
        slot,
        scale,
        spec.causal,
        spec.window,
        spec.chunk,
        float(softcap or 0.0),
        store,
    )
    return out, None


def _mask_of(
    module: nn.Module,
    mask: MaskSpec | Tensor | None,
    sliding_window: int | None,
    is_causal: bool | None,
    path: str,
) -> MaskSpec:
    """The mask that eager attention would apply: where there is a mask argument, it decides."""
    if isinstance(mask, MaskSpec):
        return mask
    if mask is not None:
        raise unsupported("attention mask given as a tensor", path)
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    return MaskSpec(causal=bool(causal), window=int(sliding_window or 0))


def register() -> None:
    """Make `NAME` an attention implementation of transformers."""
    from transformers import AttentionInterface, AttentionMaskInterface

    from ingot.models.masks import mask_interface

    AttentionInterface.register(NAME, attention_interface)
    AttentionMaskInterface.register(NAME, mask_interface)
