"""Every scheme has bounds with a reason, wider the fewer bits it keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ingot.compile.proof.bounds import BOUNDS, bounds_for
from ingot.compile.schemes import FORMATS, SCHEMES
from ingot.runtime.artifact.manifest import SchemeRecord


def record(name: str, **keep: str) -> SchemeRecord:
    scheme = SCHEMES[name]
    return SchemeRecord(
        name=name,
        linear=scheme.linear,
        embedding=scheme.embedding,
        head=scheme.head,
        kv_dtype=scheme.kv_dtype,
        activations=scheme.activations,
        keep=keep,
    )


def test_every_scheme() -> None:
    assert set(BOUNDS) == set(SCHEMES)
    assert all(bounds.reason for bounds in BOUNDS.values())


def test_only_float32_must_write_the_same_text() -> None:
    assert [name for name, bounds in BOUNDS.items() if bounds.greedy_must_match] == ["f32"]


@pytest.mark.parametrize("name", ["best", "worst", "max_error", "kl_mean"])
def test_fewer_bits_wider_bounds(name: str) -> None:
    errors = [getattr(BOUNDS[scheme], name) for scheme in ("f32", "f16", "bf16", "w8", "w4")]
    assert errors == sorted(errors)


def test_a_layer_that_ties_make_sensitive_has_a_wider_bound() -> None:
    assert BOUNDS["w8"].after_nudge("best", [0.0, 0.01]) == [BOUNDS["w8"].best, 0.02]


@pytest.mark.parametrize("name", SCHEMES)
def test_scheme_as_it_is(name: str) -> None:
    assert bounds_for(record(name)) == BOUNDS[name]


def test_kept_tensors_of_fewer_bits_widen_the_bounds() -> None:
    widened = bounds_for(record("f32", lm_head="q4_s128"))
    assert replace(widened, reason="") == replace(BOUNDS["w4"], reason="")
    assert bounds_for(record("w4", lm_head="f32")) == BOUNDS["w4"]


def test_short_sums_widen_the_bounds() -> None:
    ada = ["e4m3_products"]
    assert bounds_for(record("f8"), ada) == bounds_for(record("f16", lm_head="f8"), ada)
    assert bounds_for(record("f8"), ada).best > BOUNDS["f8"].best
    assert bounds_for(record("w8"), ada) == BOUNDS["w8"]


@pytest.mark.parametrize("code", FORMATS)
def test_every_format(code: str) -> None:
    assert bounds_for(record("f32", lm_head=code)).max_error >= BOUNDS["f32"].max_error
