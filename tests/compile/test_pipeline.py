"""The graph stages on a captured Llama: what each rewrite matches, and that none changes values."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pytest
import tvm

from ingot.compile.build import legalize
from ingot.compile.graph import GRAPH
from ingot.compile.importer import ImportedModel, import_program
from ingot.compile.pipeline import GraphOptions, count_core_operators, lower, rewrite
from ingot.compile.report import CompileReport, Observer
from ingot.compile.rewrites import QUANTIZE, REWRITE_NAMES
from ingot.compile.schemes import SCHEMES
from ingot.compile.storage import FormatRules
from ingot.errors import UsageError
from ingot.models.capture import CapturedModel
from ingot.targets import Target, best_cpu_target, detect_cpu
from tests.compile.conftest import TINY_LLAMA
from tests.compile.graphs import evaluate
from tests.tolerances import assert_close

NUM_TOKENS = 7
LAYERS = TINY_LLAMA["num_hidden_layers"]
RULES = FormatRules(SCHEMES["f32"])


@pytest.fixture(scope="module")
def imported(captured_llama: CapturedModel) -> ImportedModel:
    return import_program(captured_llama)


@pytest.fixture(scope="module")
def target() -> Target:
    return best_cpu_target(detect_cpu())


def rewritten(
    imported: ImportedModel, disabled: Collection[str] = (), formats: FormatRules = RULES
) -> tuple[tvm.IRModule, CompileReport]:
    observer = Observer(None, None)
    options = GraphOptions(best_cpu_target(detect_cpu()), formats, frozenset(disabled))
    return rewrite(imported, options, observer), observer.report


def arguments(module: tvm.IRModule) -> list[np.ndarray]:
    """Tokens, positions, rows, and weights whose products neither vanish nor blow up."""
    random = np.random.default_rng(0)
    weights = module[GRAPH].params[3:]
    shapes = [[int(extent) for extent in weight.ty.shape.values] for weight in weights]
    return [
        random.integers(0, TINY_LLAMA["vocab_size"], (1, NUM_TOKENS)),
        np.arange(NUM_TOKENS)[None],
        np.array([NUM_TOKENS - 1, 2]),
        *(random.standard_normal(shape) / np.sqrt(shape[-1]) for shape in shapes),
    ]


@pytest.fixture(scope="module")
def expected(imported: ImportedModel) -> list[np.ndarray]:
    """Logits and hidden states of the imported graph, in float64."""
    return evaluate(imported.module, arguments(imported.module))


def test_import_gives_logits_each_layer_and_what_the_head_reads(expected: list[np.ndarray]) -> None:
    width = TINY_LLAMA["hidden_size"]
    logits, hidden, normed = (1, 2, TINY_LLAMA["vocab_size"]), (1, NUM_TOKENS, width), (1, 2, width)
    assert [e.shape for e in expected] == [logits, *[hidden] * LAYERS, normed]


@pytest.mark.parametrize("disabled", [(), *((name,) for name in REWRITE_NAMES), REWRITE_NAMES])
def test_rewrites_change_no_value(
    imported: ImportedModel, expected: list[np.ndarray], disabled: tuple[str, ...]
) -> None:
    module, _ = rewritten(imported, disabled)
    for got, want in zip(evaluate(module, arguments(module)), expected, strict=True):
        assert_close(got, want, "rewrite", scale=float(np.abs(want).max()))


@pytest.mark.parametrize("disabled", [(), *((name,) for name in REWRITE_NAMES), REWRITE_NAMES])
def test_lowers_with_any_rewrite_off(
    captured_llama: CapturedModel,
    imported: ImportedModel,
    target: Target,
    disabled: tuple[str, ...],
) -> None:
    """What `ingot verify --bisect` compiles."""
    module, _ = rewritten(imported, disabled)
    options = GraphOptions(target, RULES, frozenset(disabled))
    lowered = lower(module, imported, captured_llama, options)
    tvm.relax.analysis.well_formed(legalize(lowered.module))  # raises
    sources = [weight.sources for weight in lowered.weights]
    assert {name for names in sources for name in names} == set(captured_llama.parameters.values())
    assert len(set(sources)) == len(sources)  # the last layer's weights have two readers


def test_every_rewrite_matches_as_often_as_the_model_has_it(imported: ImportedModel) -> None:
    _, report = rewritten(imported)
    matched: dict[str, Any] = report.rewrites
    assert matched.pop("clean_up") > 0  # sink_layouts finds nothing: fuse_rope made q and k meet
    assert {name: count for name, count in matched.items() if count} == {
        "fuse_norm": 2 * (2 * LAYERS + 1),  # two steps each: the norm, then its weight
        "fuse_rope": 2 * LAYERS,
        "fuse_activation": LAYERS,
        "merge_linears": 2 * LAYERS,
        "fuse_gated_activation": LAYERS,
        "fuse_gated_linear": LAYERS,
        "fuse_residual_norm": 2 * LAYERS,
        "fuse_rope_write": LAYERS,
        "gather_early": 1,
    }


def test_operators_that_are_left(imported: ImportedModel) -> None:
    module, _ = rewritten(imported)
    left = count_core_operators(module)
    ours = {name: count for name, count in left.items() if name.startswith("ingot.")}
    # gather_early: what follows the last attention is there for all rows and for the gathered ones
    assert ours == {
        "ingot.embedding": 1,
        "ingot.gated_linear": LAYERS + 1,
        "ingot.gather_rows": 2,
        "ingot.linear": 3 * LAYERS + 1 + 2,
        "ingot.norm": 1,
        "ingot.paged_attention": LAYERS,
        "ingot.residual_norm": 2 * LAYERS + 2,
        "ingot.rope": LAYERS,
    }


def test_leftover_after_lowering(
    captured_llama: CapturedModel, imported: ImportedModel, target: Target
) -> None:
    """The tables of cosines and sines alone: no slice of a merged matmul is copied."""
    module, _ = rewritten(imported)
    lowered = lower(module, imported, captured_llama, GraphOptions(target, RULES))
    assert count_core_operators(lowered.module) == {
        "relax.concat": 1,
        "relax.cos": 1,
        "relax.multiply": 1,
        "relax.sin": 1,
    }


def test_patterns_keep_formats_from_merging(imported: ImportedModel) -> None:
    rules = FormatRules(SCHEMES["w4"], (("*.k_proj", "f16"), ("*.up_proj", "f16")))
    # gather_early writes the last layer's linears twice, for all rows and for those with logits
    module, report = rewritten(imported, ("gather_early",), formats=rules)
    assert report.rewrites["merge_linears"] == LAYERS  # q and v; gate has nothing to merge with
    linears = count_core_operators(module)["ingot.linear"]
    assert linears == 6 * LAYERS + 1


def test_unknown_rewrite(imported: ImportedModel) -> None:
    with pytest.raises(UsageError, match="no rewrite is called 'fuse_all'.*clean_up"):
        rewritten(imported, ("fuse_all",))


def test_quantize_is_a_name_but_no_graph_rewrite(imported: ImportedModel) -> None:
    assert QUANTIZE in REWRITE_NAMES
    assert QUANTIZE not in rewritten(imported)[1].rewrites
