"""What is stored: formats by role and by pattern, names, ties, order, and the values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tvm import relax
from tvm.relax import Var

from ingot.compile.graph import GRAPH, Graph
from ingot.compile.kernels.matmul import LinearSpec, unpack
from ingot.compile.schemes import FORMATS, SCHEMES
from ingot.compile.storage import FormatRules, WeightTable, join_names
from ingot.errors import UsageError
from ingot.targets import load_targets
from tests.compile.graphs import TOKENS, Emit, trace

TARGET = load_targets()["cpu:x86-64-v3"]
X = {"x": (1, TOKENS, 32)}
WEIGHTS = {"p_q": (16, 32), "p_k": (8, 32), "p_norm": (32,)}
NAMES = {
    "p_q": "model.layers.0.q_proj.weight",
    "p_k": "model.layers.0.k_proj.weight",
    "p_norm": "model.norm.weight",
}


def table_of(build: Callable[..., relax.Expr]) -> tuple[WeightTable, list[Var], list[Var]]:
    """The table, the weights' variables, and the variables that `build` emits."""
    graph = Graph(trace(build, X, WEIGHTS)[GRAPH])
    graph.run(lambda graph, var, value: None)
    table = WeightTable(graph, NAMES, TARGET)
    return (
        table,
        sorted(graph.weights, key=lambda v: list(WEIGHTS).index(v.name)),
        list(graph._definitions),
    )


def concatenated(emit: Emit, x: Var, q: Var, k: Var, norm: Var) -> Var:
    return emit(relax.op.concat([q, k], axis=0))


def spec(out_features: int, code: str = "f32", has_bias: bool = False) -> LinearSpec:
    return LinearSpec(out_features, 32, FORMATS[code], "float32", has_bias)


# --- formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "code"), [("linear", "q4_s128"), ("embedding", "q6"), ("head", "q6")]
)
def test_format_by_role(role: str, code: str) -> None:
    assert FormatRules(SCHEMES["w4"]).format_of(["model.any.weight"], role) is FORMATS[code]


def test_pattern_overrides_the_scheme() -> None:
    rules = FormatRules(SCHEMES["w4"], (("*.k_proj.*", "f16"),))
    assert rules.format_of([NAMES["p_k"]], "linear").code == "f16"
    assert rules.format_of([NAMES["p_q"]], "linear").code == "q4_s128"


def test_pattern_matches_any_of_the_merged() -> None:
    rules = FormatRules(SCHEMES["w4"], (("*.k_proj.*", "f16"),))
    assert rules.format_of([NAMES["p_q"], NAMES["p_k"]], "linear").code == "f16"


def test_first_pattern_wins() -> None:
    rules = FormatRules(SCHEMES["w4"], (("*.0.*", "bf16"), ("*.k_proj.*", "f16")))
    assert rules.format_of([NAMES["p_k"]], "linear").code == "bf16"


def test_name_of_a_module_is_a_pattern_for_its_weight() -> None:
    """`--keep lm_head=f16`, as the documentation has it."""
    rules = FormatRules(SCHEMES["w4"], (("lm_head", "f16"),))
    assert rules.format_of(["lm_head.weight"], "head").code == "f16"
    assert rules.format_of(["lm_head_norm.weight"], "head").code == "q6"


def test_pattern_matches_every_name_of_a_tied_tensor() -> None:
    names = {"model.embed_tokens.weight": ("model.embed_tokens.weight", "lm_head.weight")}
    rules = FormatRules(SCHEMES["w4"], (("lm_head", "f16"),)).for_tensors(names)
    assert rules.format_of(["model.embed_tokens.weight"], "head").code == "f16"


def test_pattern_that_matches_nothing() -> None:
    rules = FormatRules(SCHEMES["w4"], (("lm_haed", "f16"),))
    with pytest.raises(UsageError, match="no tensor of the model is called 'lm_haed'") as error:
        rules.for_tensors({"lm_head.weight": ("lm_head.weight",)})
    assert "lm_head.weight" in error.value.hint


def test_unknown_format() -> None:
    with pytest.raises(UsageError, match="no format is called 'q5'.*f32, bf16"):
        FormatRules(SCHEMES["w4"], (("lm_head", "q5"),))


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "joined"),
    [
        (("a.weight",), "a.weight"),
        (("l.0.q.weight", "l.0.k.weight", "l.0.v.weight"), "l.0.{q,k,v}.weight"),
        (("l.0.q.weight", "l.1.k.weight"), "l.{0,1}.{q,k}.weight"),
        (("a.weight", "a.weight"), "a.weight"),
        (("a.weight", "norm"), "a.weight+norm"),
    ],
)
def test_join_names(names: tuple[str, ...], joined: str) -> None:
    assert join_names(names) == joined


def test_merged_weight_is_named_after_its_parts() -> None:
    table, _, (merged,) = table_of(concatenated)
    table.matrix(merged, spec(24))
    (stored,) = table
    assert stored.sources == (NAMES["p_q"], NAMES["p_k"])
    assert [t.name for t in stored.tensors] == ["model.layers.0.{q_proj,k_proj}.weight"]


def test_scales_are_named_after_their_weight() -> None:
    table, (q, _, _), _ = table_of(concatenated)
    variables = table.matrix(q, spec(16, "q8_g32"))
    (stored,) = table
    names = ["model.layers.0.q_proj.weight", "model.layers.0.q_proj.weight.scale"]
    assert [t.name for t in stored.tensors] == names
    assert [v.name for v in variables] == names
    assert [str(v.ty.dtype.dtype) for v in variables] == [t.dtype for t in stored.tensors]


def test_second_form_of_a_weight_has_a_name_of_its_own() -> None:
    table, (q, _, _), _ = table_of(concatenated)
    table.matrix(q, spec(16, "q8_g32"))
    table.plain(q)
    table.matrix(q, spec(16, "f16"))
    names = [t.name for stored in table for t in stored.tensors]
    assert names == [
        NAMES["p_q"],
        NAMES["p_q"] + ".scale",
        NAMES["p_q"] + "#2",
        NAMES["p_q"] + "#3",
    ]


# --- each once, in order -------------------------------------------------------------------------


def test_order_is_that_of_the_first_use() -> None:
    table, (q, k, norm), _ = table_of(concatenated)
    table.plain(norm)
    table.matrix(k, spec(8))
    table.matrix(q, spec(16))
    table.plain(norm)
    assert [stored.sources[0] for stored in table] == [NAMES[n] for n in ("p_norm", "p_k", "p_q")]


def test_embedding_and_head_share_what_they_store() -> None:
    """A tied table read by a linear with a bias and by an embedding without."""
    table, (q, _, _), _ = table_of(concatenated)
    assert table.matrix(q, spec(16, has_bias=True)) == table.matrix(q, spec(16))
    assert len(list(table)) == 1


# --- values --------------------------------------------------------------------------------------


def test_arrays_of_a_merged_matrix() -> None:
    table, _, (merged,) = table_of(concatenated)
    table.matrix(merged, spec(24))
    (stored,) = table
    random = np.random.default_rng(0)
    values = {
        NAMES[name]: random.standard_normal(WEIGHTS[name], dtype=np.float32)
        for name in ("p_q", "p_k")
    }
    arrays = table.arrays(stored, values.__getitem__)
    assert [(a.dtype.name, a.shape) for a in arrays] == [(t.dtype, t.shape) for t in stored.tensors]
    expected = np.concatenate([values[NAMES["p_q"]], values[NAMES["p_k"]]])
    np.testing.assert_array_equal(unpack(arrays, spec(24), TARGET), expected)


def test_arrays_of_a_plain_expression() -> None:
    def build(emit: Emit, x: Var, q: Var, k: Var, norm: Var) -> Var:
        return emit(relax.op.add(norm, relax.const(1.0)))

    table, _, (shifted,) = table_of(build)
    table.plain(shifted)
    (stored,) = table
    (array,) = table.arrays(stored, lambda name: np.zeros(32, np.float32))
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.ones(32))
