"""What the importer hands on: logits and layers, used weights alone, and errors with a place."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import tvm
from torch import nn

from ingot.compile.graph import GRAPH
from ingot.compile.importer import ImportedModel, import_program
from ingot.compile.importer.converters import CONVERTERS
from ingot.compile.importer.program import NUM_STEP_INPUTS
from ingot.errors import UnsupportedModelError
from ingot.models.capture import CapturedModel
from tests.compile.graphs import operators


@pytest.fixture(scope="module")
def imported(captured_llama: CapturedModel) -> ImportedModel:
    return import_program(captured_llama)


def test_inputs_then_weights(imported: ImportedModel, captured_llama: CapturedModel) -> None:
    parameters = imported.module[GRAPH].params
    names = [p.name for p in parameters]
    assert names[:NUM_STEP_INPUTS] == ["input_ids", "position_ids", "logit_rows"]
    assert set(names[NUM_STEP_INPUTS:]) == set(imported.checkpoint_names)
    assert imported.checkpoint_names == captured_llama.parameters
    assert int(imported.module[GRAPH].attrs["num_input"]) == NUM_STEP_INPUTS


def test_outputs(imported: ImportedModel, captured_llama: CapturedModel) -> None:
    logits, *hidden, normed = imported.module[GRAPH].ret_ty.fields
    assert int(logits.shape.values[-1]) == captured_llama.vocab_size
    assert len(hidden) == captured_llama.num_layers
    assert {int(h.shape.values[-1]) for h in hidden} == {captured_llama.hidden_size}
    assert int(normed.shape.values[-1]) == captured_llama.hidden_size
    assert list(normed.shape.values)[:2] == list(logits.shape.values)[:2]


def test_markers_are_gone_and_weights_are_whole(imported: ImportedModel) -> None:
    names = operators(imported.module)
    assert "ingot.layer_output" not in names
    assert names.count("ingot.paged_attention") == 2
    assert names.count("ingot.linear") == 15  # seven a layer and the head, none taken apart
    assert "relax.matmul" not in names or names.count("relax.matmul") == 1  # rope's frequencies


def test_weights_do_not_ride_along(imported: ImportedModel) -> None:
    """Constants of the graph are small: the weights are parameters, not data."""
    sizes: list[int] = []

    def visit(expr: tvm.relax.Expr) -> None:
        if isinstance(expr, tvm.ir.GenericConst):
            sizes.append(int(expr.value.numpy().size))

    tvm.relax.analysis.post_order_visit(imported.module[GRAPH], visit)
    assert max(sizes, default=0) < 1000


class Inner(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svdvals(x)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Identity(), Inner()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks[1](x)


def test_operator_without_a_converter(captured_llama: CapturedModel) -> None:
    """The error names the operator, the module's path and the line of its code."""
    program = torch.export.export(Outer(), (torch.zeros(4, 4),), strict=False)
    with pytest.raises(UnsupportedModelError) as error:
        import_program(replace(captured_llama, program=program, parameters={}))
    message = error.value.message
    assert "svd" in message
    assert "blocks" in message and "1" in message
    assert "test_program.py:" in message


def test_converter_that_fails(
    captured_llama: CapturedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What TVM's own converters raise says nothing of the model; ours adds the place."""

    def refuse(_node: torch.fx.Node, _importer: object) -> None:
        raise KeyError("axis")

    monkeypatch.setitem(CONVERTERS, "cos.default", refuse)
    with pytest.raises(UnsupportedModelError) as error:
        import_program(captured_llama)
    message = error.value.message
    assert "`aten.cos.default` can't be converted (KeyError: 'axis')" in message
    assert "rotary_emb" in message and "modeling_llama.py:" in message
