"""Turns rows into normalised rows in float64: what the norm kernels mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ingot.compile.kernels.norm.spec import NormSpec

Array = NDArray[np.float32]


def reference(
    spec: NormSpec,
    x: Array,
    residual: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x[n, row_width] -> (sum, normed), both [n, rows_per_token * width]."""
    start = spec.column_offset
    columns = x[:, start : start + spec.rows_per_token * spec.width].astype(np.float64)
    total = columns if residual is None else columns + residual
    rows = total.reshape(len(x), spec.rows_per_token, spec.width)
    if spec.kind == "layer":
        rows = rows - rows.mean(-1, keepdims=True)
    normed = rows / np.sqrt((rows * rows).mean(-1, keepdims=True) + spec.eps)
    if weight is not None:
        normed = normed * weight.reshape(-1, spec.width).astype(np.float64)
    if bias is not None:
        normed = normed + bias.reshape(-1, spec.width)
    return total, normed.reshape(total.shape)
