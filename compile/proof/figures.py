"""Traces to the figures that say how far they are apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.compile.proof.traces import Floats, Trace

BEST_SHARE = 0.25  # of the tokens: a rounding that falls otherwise may change all after it


def compare(eager: Sequence[Trace], compiled: Sequence[Trace]) -> dict[str, Any]:
    """Errors are relative to the largest magnitude of what eager computed.

    `kl` is the divergence of the compiled from the eager next-token distribution in nats, `top1`
    the share of positions where both have the same largest logit.
    """
    expected = np.concatenate([trace.logits for trace in eager])
    actual = np.concatenate([trace.logits for trace in compiled])
    # a row at a time: float64 over the whole vocabulary and every token would be most of the memory
    divergence = np.array([_kl(p, q) for p, q in zip(expected, actual, strict=True)])
    layers = []
    for i in range(len(eager[0].hidden)):
        hidden = np.concatenate([trace.hidden[i] for trace in eager])
        found = np.concatenate([trace.hidden[i] for trace in compiled])
        layers.append(_figure(relative_error(hidden, found).max()))
    error = relative_error(expected, actual)
    return {
        "max_error": _figure(error.max()),
        "mean_error": _figure(error.mean()),
        "kl_mean": _figure(divergence.mean()),
        "kl_max": _figure(divergence.max()),
        "top1": _figure((expected.argmax(-1) == actual.argmax(-1)).mean()),
        "layer_errors": layers,
    }


def compare_layers(
    eager: Sequence[Trace], found: Sequence[Trace], given: Sequence[Trace]
) -> dict[str, list[float]]:
    """For each layer, then for the head: a token's largest error in units of the most that the
    layer adds to that token. Each layer of `eager` computed from what `given` had before it.

    `worst` is over all tokens; the best quarter of them stays below `best`.
    """
    parts = [_layer_errors(*traces) for traces in zip(eager, found, given, strict=True)]
    layers = [np.sort(np.concatenate(part)) for part in zip(*parts, strict=True)]
    return {
        "best": [_figure(errors[int(BEST_SHARE * len(errors))]) for errors in layers],
        "worst": [_figure(errors[-1]) for errors in layers],
    }


def _layer_errors(eager: Trace, found: Trace, given: Trace) -> list[NDArray[np.float32]]:
    """The error of each token, by layer; the head adds its logits to nothing."""
    assert eager.embedded is not None
    before = [eager.embedded, *given.hidden[:-1], np.zeros_like(eager.logits[:, :1])]
    after = [*eager.hidden, eager.logits]
    actual = [*found.hidden, found.logits]
    errors = []
    for start, end, other in zip(before, after, actual, strict=True):
        most = np.abs(end - start).max(-1)
        error = np.abs(end - other).max(-1) / np.where(most == 0, np.float32(1), most)
        errors.append(np.where(np.isfinite(error), error, np.float32(np.inf)))
    return errors


def relative_error(expected: Floats, actual: Floats) -> Floats:
    """`|actual - expected|` by the largest magnitude; an infinity where one is not finite."""
    scale = float(np.abs(expected).max()) or 1.0
    error: Floats = np.abs(actual - expected) / scale
    return np.where(np.isfinite(error), error, np.float32(np.inf))


def _log_softmax(logits: Floats) -> Any:
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def _kl(expected: Floats, actual: Floats) -> float:
    """The divergence at one position."""
    with np.errstate(invalid="ignore"):  # an infinite logit makes a NaN, which is no proof
        p, q = _log_softmax(expected), _log_softmax(actual)
        return float(np.maximum((np.exp(p) * (p - q)).sum(), 0.0))


def _figure(value: Any) -> float:
    """Three significant digits: enough to judge by, few enough to be the same on every run."""
    return float(f"{float(value):.3g}")
