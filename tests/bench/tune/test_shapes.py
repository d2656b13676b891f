"""A model's layers decide what is timed, not what it has once."""

from collections import Counter
from dataclasses import replace

from ingot.bench.tune.shapes import shapes_of
from ingot.compile.kernels.matmul.spec import LinearSpec
from ingot.compile.kernels.norm.spec import NormSpec
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.schemes import FORMATS


def linear(out_features: int) -> LinearSpec:
    return LinearSpec(out_features, 64, FORMATS["f16"], "float32", has_bias=False)


def test_what_layers_call() -> None:
    sliding, full = (PagedAttentionSpec(2, 1, 16, 16, 0.25, window=window) for window in (8, 0))
    head, layer, last_rows = linear(1000), linear(128), linear(64)
    normed = replace(layer, norm_eps=1e-6)
    calls = {
        head: 1,
        layer: 1,
        normed: 5,
        last_rows: 5,
        sliding: 4,
        full: 2,
        NormSpec("rms", 64, 1e-6): 13,
    }
    shapes = shapes_of("a model", Counter(calls))
    assert shapes.name == "a model"
    assert shapes.linears == (layer, last_rows)
    assert shapes.attentions == (sliding, full)
