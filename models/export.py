"""Turns a prepared model into an exported program, cleaned, with names for its inputs."""

from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind

from ingot.errors import IngotError
from ingot.models.unsupported import unsupported_exception

_EXAMPLE_TOKENS = 7
_EXAMPLE_ROWS = 3

# Operators that the compiler has kernels or rewrites for; core ATen would take them apart.
_KEPT_WHOLE = (
    torch.ops.aten.linear.default,
    torch.ops.aten.silu.default,
    torch.ops.aten.layer_norm.default,
)

# Checks that export adds; they have no users and keep dead arithmetic alive.
_ASSERTIONS = ("_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range")


def export_program(model: nn.Module, max_tokens: int) -> ExportedProgram:
    """Export `model(input_ids, position_ids, logit_rows)` with any number of tokens and rows.

    `aten.linear` stays whole, so weights keep the layout that they have in the checkpoint.
    """
    ids = torch.zeros(1, _EXAMPLE_TOKENS, dtype=torch.int64)
    positions = torch.arange(_EXAMPLE_TOKENS)[None]
    rows = torch.arange(_EXAMPLE_ROWS)
    tokens = Dim("num_tokens", min=1, max=max_tokens)
    num_rows = Dim("num_logit_rows", min=1, max=max_tokens)
    try:
        with torch.no_grad():
            program = torch.export.export(
                model,
                (ids, positions, rows),
                dynamic_shapes=({1: tokens}, {1: tokens}, {0: num_rows}),
                strict=False,
            )
    except IngotError:
        raise
    except Exception as error:
        raise unsupported_exception(error, "torch.export stopped") from error
    table: Any = torch.export.default_decompositions()
    for op in _KEPT_WHOLE:
        table.pop(op)
    return strip(program.run_decompositions(table))


def strip(program: ExportedProgram) -> ExportedProgram:
    """Drop assertions, then everything that no output needs, in place."""
    graph = program.graph
    for node in list(graph.nodes):
        if node.op == "call_function" and not node.users:
            if getattr(node.target, "__name__", "").startswith(_ASSERTIONS):
                graph.erase_node(node)
    graph.eliminate_dead_code()
    return program


def split_inputs(
    program: ExportedProgram,
) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """(placeholder -> module path of a tensor that the checkpoint holds, placeholder -> constant).

    Persistent buffers are weights: a checkpoint overrides them. Only what the graph uses is listed.
    """
    used = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
    weights: dict[str, str] = {}
    constants: dict[str, torch.Tensor] = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT or spec.arg.name not in used:
            continue
        assert spec.target is not None
        if spec.kind is InputKind.PARAMETER or (spec.kind is InputKind.BUFFER and spec.persistent):
            weights[spec.arg.name] = spec.target
        else:
            constants[spec.arg.name] = program.constants[spec.target]
    return weights, constants
