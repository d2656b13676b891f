"""Each matrix is rounded to the format of its role, each input as its kernel does it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ingot.compile.kernels.matmul import reference
from ingot.compile.proof.rounding import ArtifactRounding, check_formats
from ingot.compile.schemes import FORMATS, SCHEMES
from ingot.errors import ArtifactVersionError
from ingot.runtime.artifact.manifest import SchemeRecord
from ingot.targets import load_targets

ZEN4, SM90 = "cpu:znver4", "cuda:sm_90"


def make_model(**changes: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        vocab_size=40, **changes,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def make_record(scheme: str, **changes: Any) -> SchemeRecord:
    made = SCHEMES[scheme]
    names = ("name", "linear", "embedding", "head", "kv_dtype", "activations")
    return SchemeRecord(**{**{name: getattr(made, name) for name in names}, **changes})


def make_rounding(
    scheme: str, model: Any = None, target: str = ZEN4, **changes: Any
) -> ArtifactRounding:
    record = make_record(scheme, **changes)
    features = load_targets()[target].features
    manifest: Any = SimpleNamespace(
        scheme=record, target=SimpleNamespace(name=target, features=features)
    )
    return ArtifactRounding(manifest, model or make_model())


def as_stored(rows: torch.Tensor, code: str) -> np.ndarray:
    return reference.round_weight(rows.numpy(), FORMATS[code]).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("model.embed_tokens.weight", SCHEMES["w4"].embedding),
        ("model.layers.0.mlp.up_proj.weight", SCHEMES["w4"].linear),
        ("model.layers.0.self_attn.q_proj.weight", "bf16"),
        ("lm_head.weight", "f16"),
    ],
)
def test_format_by_role_and_pattern(name: str, code: str) -> None:
    rounding = make_rounding("w4", keep={"*.q_proj": "bf16", "lm_head": "f16"})
    rows = torch.randn(8, 256)
    np.testing.assert_array_equal(rounding.weight(name, rows), as_stored(rows, code))


def test_a_tied_table_has_the_format_of_the_head() -> None:
    rounding = make_rounding("w4", make_model(tie_word_embeddings=True), head="bf16")
    rows = torch.randn(8, 256)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        np.testing.assert_array_equal(rounding.weight(name, rows), as_stored(rows, "bf16"))


@pytest.mark.parametrize(
    ("scheme", "target", "activations"),
    [
        ("w4", ZEN4, "int8"),
        ("w8", "cpu:x86-64-v3", "float32"),
        ("w8", SM90, "bfloat16"),
        ("bf16", ZEN4, "bfloat16"),
        ("f16", SM90, "float16"),
        ("f8", SM90, "bfloat16"),
        ("f8", "cuda:sm_89", "float8"),
        ("f32", SM90, "float32"),
    ],
)
def test_inputs(scheme: str, target: str, activations: Any) -> None:
    rounding, x = make_rounding(scheme, target=target), torch.randn(2, 3, 256)
    format = FORMATS[SCHEMES[scheme].linear]
    expected = reference.round_inputs(x.reshape(6, 256).numpy(), format, activations)
    found = rounding.inputs("model.layers.0.mlp.up_proj.weight", x).reshape(6, 256)
    np.testing.assert_array_equal(found, expected.astype(np.float32))


@pytest.mark.parametrize(
    ("scheme", "target", "cached", "queries", "attention"),
    [
        ("f32", ZEN4, False, False, False),
        ("w4", ZEN4, True, True, True),
        ("w4", "cpu:x86-64-v3", True, False, False),
        ("w4", SM90, True, False, True),
    ],
)
def test_what_attention_rounds(
    scheme: str, target: str, cached: bool, queries: bool, attention: bool
) -> None:
    rounding, x = make_rounding(scheme, target=target), torch.randn(1, 2, 3, 16)
    weights = torch.softmax(torch.randn(1, 2, 3, 50), -1)
    assert torch.equal(rounding.cached(x), x) != cached
    assert torch.equal(rounding.queries(x, 16), x) != queries
    found = rounding.attention(weights, 16, 16)
    assert torch.equal(found, weights) != attention
    torch.testing.assert_close(found, weights, rtol=2**-7, atol=0)


@pytest.mark.parametrize("changes", [{"linear": "q3_g7"}, {"keep": {"lm_head": "q3_g7"}}])
def test_formats_of_another_version(changes: dict[str, Any]) -> None:
    with pytest.raises(ArtifactVersionError, match="q3_g7"):
        check_formats(make_record("w4", **changes))


def test_formats_of_this_version() -> None:
    for scheme in SCHEMES:
        check_formats(make_record(scheme, keep={"lm_head": "f16"}))
