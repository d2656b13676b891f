"""Operators whose stock conversion is missing or wrong: imported, built and run against torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import tvm
from torch import Tensor, nn
from torch.export import Dim
from tvm import relax

from ingot.compile.importer.converters import CONVERTERS
from ingot.compile.importer.program import _Importer
from tests.tolerances import TOLERANCES

X = torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(0))
IDS = torch.tensor([[3, 0, 5, 1, 4]])
TABLE = torch.arange(12.0).reshape(6, 2)


class Function(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def run(function: Callable[..., Any], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Export with a symbolic number of tokens (dimension 1), import, build, run."""
    tokens = Dim("tokens", min=1, max=64)
    dynamic = tuple({1: tokens} if x.ndim > 1 and x.shape[1] == 5 else {} for x in inputs)
    program = torch.export.export(
        Function(function), tuple(inputs), dynamic_shapes=(dynamic,), strict=False
    )
    table = torch.export.default_decompositions()
    table.pop(torch.ops.aten.linear.default)
    program = program.run_decompositions(table)
    importer = _Importer(SimpleNamespace(program=program))  # type: ignore[arg-type]
    module = importer.from_exported_program(
        program,
        keep_params_as_input=True,
        unwrap_unit_return_tuple=True,
        no_bind_return_tuple=False,
        custom_convert_map=CONVERTERS,
    )
    executable = relax.build(module, "llvm")
    machine = relax.VirtualMachine(executable, tvm.cpu())
    result = machine["main"](*(tvm.runtime.tensor(x.numpy()) for x in inputs))
    results = [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
    return [torch.from_numpy(r.numpy()) for r in results]


def written_columns(x: Tensor) -> Tensor:
    """As DeepSeek's attention puts a key together."""
    whole = x.new_empty(1, x.shape[1], 6)
    whole[..., :4] = x[..., 2:]
    whole[..., 4:] = -x[..., :2]
    return whole


CASES: dict[str, tuple[Callable[..., Any], Sequence[Tensor]]] = {
    "matmul of integers stays integer": (lambda x: x @ x.T, [torch.arange(6).reshape(2, 3)]),
    "batched matmul": (lambda x: torch.bmm(x, x.transpose(1, 2)), [X]),
    "addmm": (lambda b, x, y: torch.addmm(b, x, y), [TABLE[0], TABLE, TABLE[:2]]),
    "index by constants below zero": (lambda x: x[:, :, torch.tensor([-1, 0, -2])], [X]),
    "reshape with symbolic tokens": (lambda x: x.reshape(x.shape[1], 3, 2), [X]),
    "view of one axis": (lambda x: x.view(1, -1, 2, 3), [X]),
    "slice that is the whole": (lambda x: x[:, -x.shape[1] :] * 2, [X]),
    "slice of columns": (lambda x: x[..., 1:4] * 2, [X]),
    "cat with an empty part": (lambda x: torch.cat([x[..., :6], x[..., 6:]], -1) * 2, [X]),
    "cat": (lambda x: torch.cat([x[..., 3:], x[..., :3]], -1), [X]),
    "columns written one after the other": (written_columns, [X]),
    "columns written over": (lambda x: torch.slice_scatter(x, -x[..., :2], -1, 3, 5) * 2, [X]),
    "all columns written over": (lambda x: torch.slice_scatter(x, -x, 2) * 2, [X]),
    "new_zeros of symbolic size": (lambda x: x + x.new_zeros(1, x.shape[1], 6), [X]),
    "log of integers": (lambda x: torch.log(x), [IDS + 1]),
    "log of floats": (lambda x: torch.log(x), [X.abs() + 0.5]),
    "floor of a quotient": (lambda x: torch.div(x, 2, rounding_mode="floor"), [IDS]),
    "integer quotient": (lambda x: torch.div(x, 2, rounding_mode="trunc"), [IDS]),
    "truncated quotient": (lambda x: torch.div(x, 0.3, rounding_mode="trunc"), [X]),
    "topk, not sorted": (
        lambda x: torch.topk(x, 2, dim=-1, sorted=False)[0].sum(-1),
        [X],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_against_torch(case: str) -> None:
    function, inputs = CASES[case]
    expected = function(*inputs)
    (got,) = run(function, inputs)
    assert got.dtype == expected.dtype and got.shape == expected.shape
    bound = TOLERANCES["elementwise"]
    torch.testing.assert_close(got, expected, rtol=bound.rtol, atol=bound.atol)
