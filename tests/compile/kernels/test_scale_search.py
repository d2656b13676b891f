"""Scales of groups: never worse than plain rounding, better on real distributions, repeatable."""

import numpy as np
import pytest

from ingot.compile.kernels.matmul.scale_search import (
    SLICE_GROUPS,
    invert_scales,
    round_to_codes,
    search_scales,
)

RANGES = {4: (-8, 7), 8: (-127, 127)}


def plain_scales(groups: np.ndarray, bits: int) -> np.ndarray:
    rows = np.arange(len(groups))
    largest = groups[rows, np.abs(groups).argmax(1)]
    return (largest / -8 if bits == 4 else np.abs(largest) / 127).astype(np.float16)


def squared_errors(groups: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    codes = np.empty_like(groups)
    round_to_codes(groups, invert_scales(scale)[:, None], *RANGES[bits], codes)
    stored = codes.astype(np.float64) * scale.astype(np.float64)[:, None]
    return ((groups - stored) ** 2).sum(1)


def draw(kind: str, num_groups: int) -> np.ndarray:
    random = np.random.default_rng(7)
    shape = (num_groups, 32)
    values = {
        "normal": lambda: random.standard_normal(shape),
        "heavy tails": lambda: random.standard_t(2, shape),
        "one sign": lambda: random.random(shape),
        "few values": lambda: random.integers(-1, 2, shape) * 0.5,
        "tiny": lambda: random.standard_normal(shape) * 1e-7,
        "zeros": lambda: np.zeros(shape),
        "near float16's end": lambda: random.uniform(-6e4, 6e4, shape) * 8,
    }[kind]()
    return values.astype(np.float32)


KINDS = ("normal", "heavy tails", "one sign", "few values", "tiny", "zeros", "near float16's end")


@pytest.mark.parametrize("bits", RANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_error_is_never_above_plain_rounding(kind: str, bits: int) -> None:
    groups = draw(kind, SLICE_GROUPS + 100)
    plain = plain_scales(groups, bits)
    with np.errstate(all="raise", under="ignore"):
        found = search_scales(groups, plain, bits, *RANGES[bits])
    assert found.dtype == np.float16 and np.isfinite(found).all()
    before, after = (squared_errors(groups, scale, bits) for scale in (plain, found))
    # Errors were compared in float32.
    assert (after <= before * (1 + 1e-5) + 1e-30).all()


@pytest.mark.parametrize(("bits", "share"), [(4, 0.92), (8, 0.82)])
def test_normal_weights_lose_a_part_of_their_error(bits: int, share: float) -> None:
    groups = draw("normal", 4096)
    plain = plain_scales(groups, bits)
    found = search_scales(groups, plain, bits, *RANGES[bits])
    before, after = (squared_errors(groups, scale, bits).sum() for scale in (plain, found))
    assert after < share * before


@pytest.mark.parametrize("bits", RANGES)
def test_what_a_scale_can_hold_exactly_stays_exact(bits: int) -> None:
    low, high = RANGES[bits]
    groups = np.random.default_rng(1).integers(low, high + 1, (50, 32)).astype(np.float32) / 64
    groups[:, 0] = (low if bits == 4 else high) / 64
    found = search_scales(groups, plain_scales(groups, bits), bits, low, high)
    np.testing.assert_allclose(squared_errors(groups, found, bits), 0, atol=1e-12)


@pytest.mark.parametrize("bits", RANGES)
def test_a_scale_depends_on_its_group_alone(bits: int) -> None:
    groups = draw("normal", 2 * SLICE_GROUPS + 3)
    plain = plain_scales(groups, bits)
    whole = search_scales(groups, plain, bits, *RANGES[bits])
    for part in (slice(0, 1), slice(5, 7), slice(100, 3 * SLICE_GROUPS), slice(-1, None)):
        alone = search_scales(groups[part], plain[part], bits, *RANGES[bits])
        np.testing.assert_array_equal(alone, whole[part])
