"""An exported program to a Relax module whose function takes ids, positions, rows and weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import tvm
from torch._subclasses.fake_tensor import FakeTensor
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from ingot.compile.graph import GRAPH, Graph, is_op
from ingot.compile.importer.converters import CONVERTERS
from ingot.compile.ops import attributes
from ingot.errors import IngotError
from ingot.models.capture import CapturedModel
from ingot.models.unsupported import unsupported_node

NUM_STEP_INPUTS = 3
"""`input_ids [1, n]`, `position_ids [1, n]` and `logit_rows [m]` come before the weights."""


@dataclass(frozen=True, slots=True)
class ImportedModel:
    """A Relax module and the checkpoint tensor behind each of its weights.

    The function `trace` returns `(logits [1, m, vocab], hidden_0 [1, n, width], hidden_1, ...,
    normed [1, m, width])`, the last of which is what the logits are made of.
    """

    module: tvm.IRModule
    checkpoint_names: dict[str, str]
    """Name of a weight's variable -> name of the tensor in the model."""


def import_program(captured: CapturedModel) -> ImportedModel:
    """Convert `captured.program`; an operator without a converter is named with its source line."""
    importer = _Importer(captured)
    module = importer.from_exported_program(
        captured.program,
        keep_params_as_input=True,
        unwrap_unit_return_tuple=True,
        no_bind_return_tuple=False,
        custom_convert_map=CONVERTERS,
    )
    return ImportedModel(
        _expose_layer_outputs(module, used=set(captured.parameters)), captured.parameters
    )


class _Importer(ExportedProgramImporter):  # type: ignore[misc] # TVM has no types
    """The stock importer without weights and with errors that point into the model's code."""

    convert_map: dict[str, Callable[..., relax.Expr]]

    def __init__(self, captured: CapturedModel) -> None:
        super().__init__()
        program = captured.program
        self.ingot_constants = {
            spec.arg.name: program.constants[spec.target]
            for spec in program.graph_signature.input_specs
            if spec.target in program.constants
        }

    @staticmethod
    def _convert_pytorch_tensor_to_tvm(tensor_value: torch.Tensor) -> tvm.runtime.Tensor:
        if isinstance(tensor_value, FakeTensor) or tensor_value.is_meta:
            # Weights are streamed later; the importer wants some tensor here and drops it.
            return tvm.runtime.tensor(torch.zeros(1).numpy())
        return ExportedProgramImporter._convert_pytorch_tensor_to_tvm(tensor_value)

    def _check_unsupported_func_type(self, nodes: list[Any]) -> None:
        for node in nodes:
            if node.op == "call_function" and node.target.__name__ not in self.convert_map:
                raise unsupported_node(node, f"no converter for `{node.target}`")

    def _translate_fx_graph(self, *args: Any) -> tuple[relax.Expr, ...]:
        self.convert_map = {name: _located(convert) for name, convert in self.convert_map.items()}
        translated: tuple[relax.Expr, ...] = super()._translate_fx_graph(*args)
        return translated


def _located(convert: Callable[..., relax.Expr]) -> Callable[..., relax.Expr]:
    """`convert` with whatever it raises turned into an error that names the operator's place."""

    def converted(node: torch.fx.Node, *importer: Any) -> relax.Expr:
        try:
            return convert(node, *importer)
        except IngotError:
            raise
        except Exception as error:  # converters raise whatever their code meets
            reason = (str(error) or "no reason given").splitlines()[0]
            raise unsupported_node(
                node, f"`{node.target}` can't be converted ({type(error).__name__}: {reason})"
            ) from error

    return converted


def _expose_layer_outputs(module: tvm.IRModule, used: set[str]) -> tvm.IRModule:
    """Return the marked hidden states and the rows before the head beside the logits; drop markers
    and unused weights."""
    function = module["main"]
    graph = Graph(function)
    hidden: dict[int, relax.Expr] = {}
    before_head: list[relax.Expr] = []

    def unmark(graph: Graph, _var: relax.Var, value: relax.Expr) -> relax.Expr | None:
        if is_op(value, "ingot.layer_output"):
            hidden[attributes(value)["layer"]] = value.args[0]
            return value.args[0]
        if is_op(value, "ingot.gather_rows"):
            before_head.append(graph.emit(value))
            return before_head[-1]
        return None

    def outputs(result: relax.Expr) -> relax.Expr:
        # The model's own code gathers once, the rows that it is asked for.
        (normed,) = before_head
        return relax.Tuple([result, *(hidden[layer] for layer in sorted(hidden)), normed])

    rewritten = graph.run(unmark, outputs)
    keep = {"num_input": NUM_STEP_INPUTS}
    for name in ("tir_var_lower_bound", "tir_var_upper_bound"):
        if function.attrs and name in function.attrs:
            keep[name] = function.attrs[name]
    inputs, weights = rewritten.params[:NUM_STEP_INPUTS], rewritten.params[NUM_STEP_INPUTS:]
    rewritten = relax.Function(
        [*inputs, *(weight for weight in weights if weight.name in used)],
        rewritten.body,
        rewritten.ret_ty,
        rewritten.is_pure,
    ).with_attrs({**keep, "global_symbol": GRAPH})
    return relax.transform.DeadCodeElimination([GRAPH])(tvm.IRModule({GRAPH: rewritten}))
