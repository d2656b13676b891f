"""out = act(x), or act(gate) * up with gate and up side by side in one matrix or in two.

x, gate, up, out: [n, width] float32; gate_up: [n, 2 * width], the gate first. Rows are cut into
chunks of columns, so that one wide row is spread over the cores too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import tirx

from ingot.compile.kernels.activation.spec import ActivationSpec
from ingot.compile.kernels.vector_ir import (
    Expr,
    count,
    fma,
    for_pieces,
    kernel,
    let,
    load,
    rows_in_parallel,
    splat,
    store,
)
from ingot.compile.kernels.vector_math import erf, sigmoid, tanh
from ingot.targets import Target

UNROLL = 2
CHUNK_COLUMNS = 2048  # at most: chunks of a row are work for several cores
COST = 4  # an exponential and a division, in elements copied


def _silu(x: Expr, lanes: int) -> Expr:
    return x * sigmoid(x, lanes)


def _gelu(x: Expr, lanes: int) -> Expr:
    half = x * splat(0.5, lanes)
    return fma(half, erf(x * splat(math.sqrt(0.5), lanes), lanes), half, lanes)


def _gelu_tanh(x: Expr, lanes: int) -> Expr:
    cubic = fma(x * x * splat(0.044715, lanes), x, x, lanes)
    half = x * splat(0.5, lanes)
    return fma(half, tanh(cubic * splat(math.sqrt(2 / math.pi), lanes), lanes), half, lanes)


def _quick_gelu(x: Expr, lanes: int) -> Expr:
    return x * sigmoid(x * splat(1.702, lanes), lanes)


def _relu(x: Expr, lanes: int) -> Expr:
    return tirx.Select(x < splat(0.0, lanes), splat(0.0, lanes), x)  # keeps not-a-number


def _relu2(x: Expr, lanes: int) -> Expr:
    positive = let(_relu(x, lanes), lanes)
    return positive * positive


FUNCTIONS: dict[str, Callable[[Expr, int], Expr]] = {
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "quick_gelu": _quick_gelu,
    "relu": _relu,
    "relu2": _relu2,
    "sigmoid": sigmoid,
    "tanh": tanh,
}


def build(spec: ActivationSpec, target: Target) -> tirx.PrimFunc:
    """(x | gate_up | gate, up; out) -> nothing; writes out."""
    n = count("n")
    activate, width = FUNCTIONS[spec.kind], spec.width
    chunk = _chunk_columns(width, target.float32_lanes)
    with kernel(f"{spec.kind}_gated" if spec.gated else spec.kind) as k:
        if spec.gated == "gate_up":
            gate = up = k.argument("gate_up", (n, 2 * width))
        else:
            gate = k.argument("gate" if spec.gated else "x", (n, width))
            up = k.argument("up", (n, width)) if spec.gated else None
        out = k.argument("out", (n, width))
        up_column = width if spec.gated == "gate_up" else 0

        def activate_chunk(item: Expr) -> None:
            row = let(tirx.floordiv(item, width // chunk), 1, "int64")
            start = let(tirx.floormod(item, width // chunk) * chunk, 1, "int64")

            def activate_piece(offset: Expr, lanes: int, _: int) -> None:
                column = start + offset
                value = activate(let(load(gate, (row, column), lanes), lanes), lanes)
                if up is not None:
                    value = value * load(up, (row, column + up_column), lanes)
                store(out, (row, column), value, lanes)

            for_pieces(chunk, target.float32_lanes, UNROLL, activate_piece)

        rows_in_parallel(n * (width // chunk), chunk * COST, activate_chunk)
    return k.function


def _chunk_columns(width: int, lanes: int) -> int:
    """The widest chunk of whole vectors that divides a row; the whole row where none does."""
    chunks = [c for c in range(lanes, min(width, CHUNK_COLUMNS) + 1, lanes) if width % c == 0]
    return max(chunks, default=width)
