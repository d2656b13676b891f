"""Turns logits into tokens in float64, one row at a time: what the sampling kernels mean.

Order: temperature, top-k, top-p of what top-k kept (renormalised), min-p relative to the likeliest.
Tokens that tie with the last one kept are kept too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Int = NDArray[np.int32]


def distribution(
    logits: Float, temperature: float, top_k: int, top_p: float, min_p: float
) -> NDArray[np.float64]:
    """The probabilities that a token is drawn from; temperature is above 0."""
    x = logits.astype(np.float64)
    weights = np.exp((x - x.max()) / np.float64(temperature))
    descending = np.sort(x)[::-1]
    keep = np.ones(len(x), bool)
    if 0 < top_k < len(x):
        keep = x >= descending[top_k - 1]
    if top_p < 1:
        order = np.argsort(-x, kind="stable")
        mass = np.cumsum(np.where(keep, weights, 0)[order])
        last = np.searchsorted(mass, np.float64(top_p) * mass[-1])
        keep &= x >= x[order[min(int(last), len(x) - 1)]]
    if min_p > 0:
        keep &= weights >= np.float64(min_p)
    weights = np.where(keep, weights, 0)
    return np.asarray(weights / weights.sum())


def sample(
    logits: Float, temperature: Float, top_k: Int, top_p: Float, min_p: Float, uniform: Float
) -> Int:
    """logits[m, vocabulary] and one setting a row -> tokens[m]."""
    tokens = np.zeros(len(logits), np.int32)
    for row, x in enumerate(logits):
        if temperature[row] <= 0:
            tokens[row] = np.argmax(x)
            continue
        p = distribution(x, temperature[row], int(top_k[row]), top_p[row], min_p[row])
        first = np.searchsorted(np.cumsum(p), np.float64(uniform[row]), side="right")
        tokens[row] = min(int(first), int(np.flatnonzero(p)[-1]))
    return tokens


def penalize(
    logits: Float,
    row_offsets: Int,
    tokens: Int,
    output_counts: Int,
    seen: Int,
    bias: Float,
    repetition: Float,
    presence: Float,
    frequency: Float,
) -> NDArray[np.float64]:
    """The logits after penalties and bias; the arguments are those of the kernel."""
    out = logits.astype(np.float64)
    for row in range(len(logits)):
        for i in range(row_offsets[row], row_offsets[row + 1]):
            x = out[row, tokens[i]]
            if seen[i]:
                x = x / repetition[row] if x > 0 else x * repetition[row]
            x = x - presence[row] * (output_counts[i] > 0) - frequency[row] * output_counts[i]
            out[row, tokens[i]] = x + bias[i]
    return out


def mask(logits: Float, mask_rows: Int, bits: Int) -> Float:
    """The logits, the lowest number where a row's mask has no bit for the token."""
    out = logits.copy()
    for row, place in enumerate(mask_rows):
        if place >= 0:
            flags = np.unpackbits(bits[place].view(np.uint8), bitorder="little")
            out[row, flags[: logits.shape[1]] == 0] = np.finfo(np.float32).min
    return out


def logprobs(logits: Float, tokens: Int, num_top: Int, max_top: int) -> NDArray[np.float64]:
    """The rows' log of the sum of exponentials, the token's logit, the largest logits, their
    tokens; NaN where nothing was asked."""
    out = np.full((len(logits), 2 + 2 * max_top), np.nan)
    for row, x in enumerate(logits.astype(np.float64)):
        if num_top[row] < 0:
            continue
        order = np.argsort(-x, kind="stable")[: num_top[row]]
        out[row, 0] = x.max() + np.log(np.exp(x - x.max()).sum())
        out[row, 1] = x[tokens[row]]
        out[row, 2 : 2 + len(order)] = x[order]
        out[row, 2 + max_top : 2 + max_top + len(order)] = order
    return out
