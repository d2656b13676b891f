"""Planned weights become files that map, of values that no kernel makes NaN of."""

from pathlib import Path

import numpy as np
import pytest

from ingot.bench.gpu_check import random_values
from ingot.bench.gpu_check.hollow import place_weights
from ingot.bench.gpu_check.random_values import (
    block,
    drop_from_cache,
    fill_weights,
    remove_weights,
)
from ingot.errors import UsageError
from ingot.runtime.artifact.manifest import write_manifest
from ingot.runtime.artifact.weights_file import TensorSpec, map_weights
from tests.runtime.toy_artifact import toy_manifest

SPECS = [
    TensorSpec("norm.weight", "float32", (1000,)),
    TensorSpec("q.bias", "float32", (1000,)),
    TensorSpec("q.weight", "uint16", (40, 50)),
    TensorSpec("k.weight", "uint16", (40, 50)),
    TensorSpec("o.weight", "uint8", (40, 50)),
    TensorSpec("o.weight.scale", "float16", (40, 50)),
    TensorSpec("embed.weight", "int8", (40, 50)),
    TensorSpec("embed.weight.scale", "float32", (40, 1)),
]


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that tensors are longer than one."""
    monkeypatch.setattr(random_values, "BLOCK_ELEMENTS", 9973)
    monkeypatch.setattr(random_values, "block", block.__wrapped__)


def test_files_are_filled(tmp_path: Path) -> None:
    long = TensorSpec("long.weight", "uint16", (200, 300))
    weights, files = place_weights([*SPECS, long])
    manifest = toy_manifest(weights=tuple(weights), files=tuple(files))
    write_manifest(tmp_path, manifest)
    fill_weights(tmp_path)
    drop_from_cache(tmp_path)
    assert [(tmp_path / file.path).stat().st_size for file in files] == [f.bytes for f in files]
    found = dict(zip([w.name for w in weights], map_weights(tmp_path, weights), strict=True))
    assert abs(found["norm.weight"] - 1).max() < 0.2
    assert abs(found["q.bias"]).max() < 0.2
    for name in ("q.weight", "long.weight"):
        values = (found[name].astype(np.uint32) << 16).view(np.float32)
        assert abs(values.std() - 0.02) < 0.002 and np.isfinite(values).all()
    assert not np.array_equal(found["q.weight"], found["k.weight"])
    assert not np.array_equal(found["long.weight"][0], found["long.weight"][1])
    assert len(np.unique(found["o.weight"])) > 250
    for name, std in (("o.weight.scale", 4.6), ("embed.weight.scale", 74)):
        assert (abs(found[name].astype(np.float32) * std - 0.02) < 0.003).all()
    remove_weights(tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


def test_unknown_types_are_refused() -> None:
    with pytest.raises(UsageError, match="no random values of type uint32"):
        block.__wrapped__("weight", "uint32")
