"""Every activation, plain and gated, over magnitudes where its parts saturate."""

import numpy as np
import pytest

from ingot.compile.kernels.activation.cpu import FUNCTIONS
from ingot.compile.kernels.activation.reference import FUNCTIONS as REFERENCES
from ingot.compile.kernels.activation.reference import reference
from ingot.compile.kernels.activation.spec import ActivationSpec
from ingot.targets import Target
from tests.compile.kernels.conftest import compile_op, normal
from tests.tolerances import assert_close


@pytest.mark.parametrize("kind", sorted(FUNCTIONS))
def test_plain(kind: str, target: Target) -> None:
    x = np.concatenate([np.linspace(-12, 12, 5 * 97), np.linspace(-200, 200, 5 * 97)])
    x = x.astype(np.float32).reshape(-1, 97)
    got = compile_op("activation", ActivationSpec(kind, 97), target)(x, np.zeros_like(x))[-1]
    assert_close(got, reference(kind, x), "activation")


@pytest.mark.parametrize(("kind", "width"), [("silu", 4864), ("gelu_tanh", 77)])
def test_gated(kind: str, width: int, target: Target) -> None:
    merged = compile_op("activation", ActivationSpec(kind, width, "gate_up"), target)
    separate = compile_op("activation", ActivationSpec(kind, width, "separate"), target)
    for n in (0, 1, 9):
        gate, up, out = normal(n, width), normal(n, width), np.zeros((n, width), np.float32)
        want = reference(kind, gate, up)
        assert_close(merged(np.concatenate([gate, up], axis=1), out)[-1], want, "activation")
        assert_close(separate(gate, up, out)[-1], want, "activation")


def test_every_kind_has_a_reference() -> None:
    assert set(FUNCTIONS) == set(REFERENCES)
