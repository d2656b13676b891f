"""The meaning of an embedding, in NumPy: rows of the table as it is stored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ingot.compile.kernels.matmul.reference import round_weight
from ingot.compile.kernels.matmul.scale_search import Floats
from ingot.compile.schemes import WeightFormat


def embedding(
    token_ids: NDArray[np.int32], table: Floats, format: WeightFormat
) -> NDArray[np.float64]:
    """`table[token_ids]` after `table` is rounded to `format`."""
    return round_weight(table, format)[token_ids]
