"""What an attention layer is, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ingot.compile.kernels.rope.spec import RopeSpec
from ingot.targets import Target

RUN_TOKENS = 128  # a multiple of every page size; what one new maximum of a softmax is taken over
SPAN_TOKENS = 512  # a multiple of a run; the unit in which a context is split over cores


def has_pairs(kv_dtype: str, key_dim: int, value_dim: int, target: Target) -> bool:
    """Whether the pools of a target hold pairs side by side, for products of bfloat16 pairs.

    A page of one head, of the same size, is then `[key_dim / 2, slot, 2]` in the key pool, the
    two inputs of each key together, and `[slots / 2, value_dim, 2]` in the value pool, two slots
    together. Queries and softmax weights are rounded to bfloat16 as well.
    """
    if kv_dtype != "bfloat16" or not target.has_bfloat16_dot:
        return False
    return key_dim % target.float32_lanes == 0 and value_dim % target.float32_lanes == 0


@dataclass(frozen=True, slots=True)
class WeightRounding:
    """How softmax weights are rounded to the dtype of the cache: relative to the largest one up to
    the end of their run of positions; `sums_rounded` if they are added up after and not before."""

    run_tokens: int
    sums_rounded: bool


def weight_rounding(
    kv_dtype: str, key_dim: int, value_dim: int, target: Target
) -> WeightRounding | None:
    """What kernels that multiply in 16 bits do to softmax weights; `None` where they keep them."""
    if has_pairs(kv_dtype, key_dim, value_dim, target):
        return WeightRounding(RUN_TOKENS, sums_rounded=True)
    if target.kind == "cuda" and has_fragments(
        kv_dtype, key_dim, value_dim, target.page_size_tokens
    ):
        return WeightRounding(target.page_size_tokens, sums_rounded=False)
    return None


def has_fragments(kv_dtype: str, key_dim: int, value_dim: int, page_size: int) -> bool:
    """Whether fragments of 16 x 16 values of 16 bits, for tensor cores, cover heads and pages."""
    return kv_dtype != "float32" and all(n % 16 == 0 for n in (key_dim, value_dim, page_size))


def can_rotate(target: Target) -> bool:
    """Whether the kernel takes queries as they are and rotates them where it loads them: a GPU
    saves a kernel and a trip through memory; a CPU would do it again for each span."""
    return target.kind == "cuda"


@dataclass(frozen=True, slots=True)
class PagedAttentionSpec:
    """What differs between attention layers. 0 means no window, no chunk, no softcap.

    `rope` is the rotation of the queries, where the kernel makes it; else they come rotated.
    """

    num_heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    scale: float
    window: int = 0  # a query at i sees keys j with i - j < window
    chunk: int = 0  # a query at i sees keys j with j // chunk == i // chunk
    softcap: float = 0.0
    causal: bool = True
    has_sinks: bool = False
    has_slopes: bool = False
    kv_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    page_size: int = 32
    row_width: int = 0
    column_offset: int = 0
    rope: RopeSpec | None = None

    def __post_init__(self) -> None:
        if not self.row_width:
            object.__setattr__(self, "row_width", self.num_heads * self.key_dim)
        assert self.num_heads % self.kv_heads == 0, self
        assert self.scale > 0, self
        assert RUN_TOKENS % self.page_size == 0, self
        assert self.column_offset + self.num_heads * self.key_dim <= self.row_width, self

    @property
    def group(self) -> int:
        """Query heads per KV head."""
        return self.num_heads // self.kv_heads
