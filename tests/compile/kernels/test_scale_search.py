"""Scales of groups: never worse than plain rounding, better on real distributions, repeatable."""

import numpy as np
import pytest

from ingot.compile.kernels.matmul.scale_search import (
    SLICE_GROUPS,
    Codes,
    invert_scales,
    round_to_codes,
    search_scales,
)
from ingot.compile.kernels.matmul.superblocks import search_superblocks
from ingot.errors import CompileError

BYTES, NIBBLES = Codes(-127, 127), Codes(-8, 7)


def plain_scales(groups: np.ndarray) -> np.ndarray:
    return (np.abs(groups).max(1) / 127).astype(np.float16)


def squared_errors(groups: np.ndarray, scale: np.ndarray, codes: Codes = BYTES) -> np.ndarray:
    rounded = np.empty_like(groups)
    round_to_codes(groups, invert_scales(scale)[:, None], codes, rounded)
    stored = rounded.astype(np.float64) * scale.astype(np.float64)[:, None]
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


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_is_never_above_plain_rounding(kind: str) -> None:
    groups = draw(kind, SLICE_GROUPS + 100)
    plain = plain_scales(groups)
    with np.errstate(all="raise", under="ignore"):
        found = search_scales(groups, plain, BYTES)
    assert found.dtype == np.float16 and np.isfinite(found).all()
    before, after = (squared_errors(groups, scale) for scale in (plain, found))
    # Errors were compared in float32.
    assert (after <= before * (1 + 1e-5) + 1e-30).all()


def test_normal_weights_lose_a_part_of_their_error() -> None:
    groups = draw("normal", 4096)
    plain = plain_scales(groups)
    found = search_scales(groups, plain, BYTES)
    before, after = (squared_errors(groups, scale).sum() for scale in (plain, found))
    assert after < 0.82 * before


def test_what_a_scale_can_hold_exactly_stays_exact() -> None:
    groups = np.random.default_rng(1).integers(-127, 128, (50, 32)).astype(np.float32) / 64
    groups[:, 0] = 127 / 64
    found = search_scales(groups, plain_scales(groups), BYTES)
    np.testing.assert_allclose(squared_errors(groups, found), 0, atol=1e-12)


def test_a_scale_depends_on_its_group_alone() -> None:
    groups = draw("normal", 2 * SLICE_GROUPS + 3)
    plain = plain_scales(groups)
    whole = search_scales(groups, plain, BYTES)
    for part in (slice(0, 1), slice(5, 7), slice(100, 3 * SLICE_GROUPS), slice(-1, None)):
        np.testing.assert_array_equal(search_scales(groups[part], plain[part], BYTES), whole[part])


def superblocks(kind: str, count: int) -> np.ndarray:
    return draw(kind, 4 * count).reshape(count, 4, 32)


def stored(found: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    integers, scale, multipliers = found
    assert integers.min() >= -8 and integers.max() <= 7 and multipliers.max() <= 15
    return integers * (scale[:, None].astype(np.float64) * multipliers)[:, :, None]


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_a_superblock_is_near_its_groups_with_scales_of_their_own(kind: str) -> None:
    """At most a fifth is lost against a float scale for each group that clips nothing."""
    weights = superblocks(kind, SLICE_GROUPS // 4 + 25)
    with np.errstate(all="raise", under="ignore"):
        got = stored(search_superblocks(weights))
    error = ((weights - got) ** 2).sum()
    groups = weights.reshape(-1, 32)
    largest = groups[np.arange(len(groups)), np.abs(groups).argmax(1)]
    plain = squared_errors(groups, (largest / -8).astype(np.float16), NIBBLES).sum()
    assert error <= 1.2 * plain + 1e-9


def test_a_superblock_beyond_float16_is_refused() -> None:
    with pytest.raises(CompileError, match="doesn't fit"):
        search_superblocks(superblocks("near float16's end", 10))


def test_a_superblock_depends_on_itself_alone() -> None:
    weights = superblocks("heavy tails", SLICE_GROUPS)
    whole = search_superblocks(weights)
    for part in (slice(0, 1), slice(100, 3000), slice(-1, None)):
        for got, want in zip(search_superblocks(weights[part]), whole, strict=True):
            np.testing.assert_array_equal(got, want[part])
