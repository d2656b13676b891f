"""The activation of `cpu.py` on a GPU: one thread an element."""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import tirx

from ingot.compile.kernels.activation.spec import ActivationSpec
from ingot.compile.kernels.cuda_ir import for_elements, let
from ingot.compile.kernels.vector_ir import Expr, T, count, kernel
from ingot.targets import Target


def _sigmoid(x: Expr) -> Expr:
    return tirx.const(1.0, "float32") / (tirx.exp(-x) + 1.0)


def _gelu_tanh(x: Expr) -> Expr:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    return 0.5 * x * (1.0 + tirx.tanh(inner))


def _relu(x: Expr) -> Expr:
    zero = tirx.const(0.0, "float32")
    return tirx.Select(x < zero, zero, x)  # keeps not-a-number


FUNCTIONS: dict[str, Callable[[Expr], Expr]] = {
    "silu": lambda x: x * _sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1.0 + tirx.erf(x * math.sqrt(0.5))),
    "gelu_tanh": _gelu_tanh,
    "quick_gelu": lambda x: x * _sigmoid(x * 1.702),
    "relu": _relu,
    "relu2": lambda x: _relu(x) * _relu(x),
    "sigmoid": _sigmoid,
    "tanh": lambda x: tirx.tanh(x),
}


def build(spec: ActivationSpec, target: Target) -> tirx.PrimFunc:
    """(x | gate_up | gate, up; out) -> nothing; writes out."""
    n, width = count("n"), spec.width
    with kernel(f"{spec.kind}_gated" if spec.gated else spec.kind) as k:
        if spec.gated == "gate_up":
            gate = up = k.argument("gate_up", (n, 2 * width))
        else:
            gate = k.argument("gate" if spec.gated else "x", (n, width))
            up = k.argument("up", (n, width)) if spec.gated else None
        out = k.argument("out", (n, width))
        up_column = width if spec.gated == "gate_up" else 0

        def activate(i: Expr) -> None:
            row = let(tirx.floordiv(i, width), "int64")
            column = let(tirx.floormod(i, width), "int64")
            value = FUNCTIONS[spec.kind](let(gate[row, column]))
            if up is not None:
                value = value * up[row, column + up_column]
            T.buffer_store(out, value, [row, column])

        for_elements(n * width, activate)
    return k.function
