"""The per-step arguments of `step` and `trace`: the compiler's side of the step contract."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import relax, tirx


@dataclass(frozen=True, slots=True)
class StepInputs:
    """One variable an argument, in order, all int32.

    `n` tokens of `b` sequences lie side by side; sequence `s` owns rows `query_offsets[s]` to
    `query_offsets[s + 1]` and has `context_lengths[s]` tokens in the cache after the step.
    `slots[i]` is where token `i`'s key and value go (page * page size + offset, -1: nowhere).
    """

    token_ids: relax.Var
    positions: relax.Var
    slots: relax.Var
    page_table: relax.Var
    query_offsets: relax.Var
    context_lengths: relax.Var
    logit_rows: relax.Var

    def as_list(self) -> list[relax.Var]:
        return [getattr(self, name) for name in StepInputs.__dataclass_fields__]


def create_step_inputs(tokens: tirx.Expr, rows: tirx.Expr) -> StepInputs:
    """Variables for `n` tokens and `m` logit rows; sequences and pages get symbols of their own."""
    sequences, pages = tirx.Var("b", "int64"), tirx.Var("p", "int64")

    def array(name: str, *shape: tirx.Expr) -> relax.Var:
        return relax.Var(name, relax.TensorType(shape, "int32"))

    return StepInputs(
        token_ids=array("token_ids", tokens),
        positions=array("positions", tokens),
        slots=array("slots", tokens),
        page_table=array("page_table", sequences, pages),
        query_offsets=array("query_offsets", sequences + 1),
        context_lengths=array("context_lengths", sequences),
        logit_rows=array("logit_rows", rows),
    )


STEP_DIMENSIONS = {"n": (0, 0), "b": (3, 0), "p": (3, 1), "m": (6, 0)}
"""The places that tell a step's dimensions (`polynomial.Place`)."""
