"""One wrong group of one matrix of a quantized artifact, in any kernel, fails the proof.

As wrong as a kernel that takes a scale for its neighbour's, or the nibbles of a byte the other way
round, but for a few outputs only. Eager beside the unquantized checkpoint wouldn't tell it from
what quantizing does.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ingot.compile.api import compile_model
from ingot.compile.proof.prove import run_proof
from ingot.models.capture import CapturedModel
from ingot.models.resolve import resolve_model
from ingot.runtime.artifact.artifact import load_artifact
from ingot.runtime.artifact.manifest import read_manifest

QKV = "model.layers.0.self_attn.{q_proj,k_proj,v_proj}.weight"
GATE_UP = "model.layers.1.mlp.{gate_proj,up_proj}.weight"
DOWN = "model.layers.1.mlp.down_proj.weight"
HEAD = "lm_head.weight"


@pytest.fixture(scope="module")
def compile_scheme(
    tiny_llama: Path, captured_llama: CapturedModel, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """`tiny_llama` in a scheme that rounds weights and inputs; each is compiled once."""

    @cache
    def compile_it(scheme: str) -> Path:
        out = tmp_path_factory.mktemp("quantized") / scheme
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ingot.models.capture.capture", lambda config, **options: captured_llama)
            compile_model(str(tiny_llama), quant=scheme, out=out, prove=False)
        return out

    return compile_it


def change(folder: Path, name: str, edit: Callable[[NDArray[Any]], None]) -> None:
    """Let `edit` change a stored tensor in place."""
    weight = next(w for w in read_manifest(folder).weights if w.name == name)
    stored = np.memmap(
        folder / weight.file, weight.dtype, "r+", offset=weight.offset, shape=weight.shape
    )
    edit(stored)
    stored.flush()


def spoil_scale(scales: NDArray[Any]) -> None:
    """One group of inputs of one output: as of another group."""
    scales.reshape(-1)[3] *= 1.5


def swap_nibbles(codes: NDArray[Any]) -> None:
    """Some inputs of one output change places with those that share their bytes."""
    some = codes.reshape(-1)[12:16]
    some[:] = (some >> 4) | (some << 4)


@pytest.mark.parametrize(
    ("scheme", "tensor", "edit", "where"),
    [
        ("w4", QKV, swap_nibbles, "layer 0"),
        ("w4", GATE_UP, swap_nibbles, "layer 1"),
        ("w4", DOWN, swap_nibbles, "layer 1"),
        ("w8", f"{QKV}.scale", spoil_scale, "layer 0"),
        ("w8", f"{GATE_UP}.scale", spoil_scale, "layer 1"),
        ("w8", f"{HEAD}.scale", spoil_scale, "the head"),
    ],
)
def test_is_found(
    scheme: str,
    tensor: str,
    edit: Callable[[NDArray[Any]], None],
    where: str,
    compile_scheme: Callable[[str], Path],
    tiny_llama: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "spoiled"
    shutil.copytree(compile_scheme(scheme), folder)
    change(folder, tensor, edit)
    report = run_proof(load_artifact(folder), resolve_model(str(tiny_llama)))
    assert all(f"error of {where} is" in failure for failure in report.failures)
    assert not report.is_proven
