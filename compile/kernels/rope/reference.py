"""Turns x, cos and sin into rotated x in float64: what the rope kernels mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ingot.compile.kernels.rope.spec import RopeSpec


def reference(
    spec: RopeSpec, x: NDArray[np.float32], cos: NDArray[np.float32], sin: NDArray[np.float32]
) -> NDArray[np.float64]:
    """x[n, row_width], cos and sin[n, cos_width] -> [n, num_heads * head_dim]."""
    start, width = spec.column_offset, spec.num_heads * spec.head_dim
    heads = x[:, start : start + width].reshape(len(x), spec.num_heads, spec.head_dim)
    out = heads.astype(np.float64)
    rotary = out[..., : spec.rotary_dim]
    c, s = cos.astype(np.float64), sin.astype(np.float64)
    if spec.interleaved:
        if spec.cos_width < spec.rotary_dim:
            c, s = np.repeat(c, 2, axis=-1), np.repeat(s, 2, axis=-1)
        turned = np.stack([-rotary[..., 1::2], rotary[..., 0::2]], axis=-1).reshape(rotary.shape)
    else:
        if spec.cos_width < spec.rotary_dim:
            c, s = np.tile(c, 2), np.tile(s, 2)
        half = spec.rotary_dim // 2
        turned = np.concatenate([-rotary[..., half:], rotary[..., :half]], axis=-1)
    rotated = rotary * c[:, None] + turned * s[:, None]
    return np.concatenate([rotated, out[..., spec.rotary_dim :]], axis=-1).reshape(len(x), width)
