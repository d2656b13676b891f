"""Every target file loads and is consistent; a wrong one fails with its message."""

from typing import Any

import pytest

from ingot.targets import TargetError, load_targets
from ingot.targets.target import parse_target

CPU: dict[str, Any] = {
    "name": "cpu:test",
    "kind": "cpu",
    "description": "for tests",
    "default_scheme": "w4",
    "page_size_tokens": 32,
    "llvm_triple": "x86_64-linux-gnu",
    "llvm_cpu": "haswell",
    "features": ["avx2"],
    "vector_bytes": 32,
}


@pytest.mark.parametrize("name", sorted(load_targets()))
def test_file_is_consistent(name: str) -> None:
    target = load_targets()[name]
    assert target.name == name
    assert name.startswith(f"{target.kind}:")
    assert len(set(target.features)) == len(target.features)
    if target.kind == "cpu":
        assert name == f"cpu:{target.llvm_cpu}"
        assert target.architecture in ("x86_64", "aarch64")
        assert target.float32_lanes * 4 == target.vector_bytes
        assert target.l2_bytes > 0
    else:
        assert name == f"cuda:{target.cuda_arch}"
        assert target.architecture == ""
        assert target.example and min(target.multiprocessors, target.l2_bytes) > 0
        assert min(target.memory_gb_s, target.bf16_tflops) > 0


def test_record_becomes_target() -> None:
    target = parse_target(CPU)
    assert target.features == ("avx2",)
    assert target.has("avx2") and not target.has("avx512f")
    assert target.architecture == "x86_64"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "tpu"}, "'cpu' or 'cuda'"),
        ({"vector_bytes": 24}, "16, 32 or 64"),
        ({"page_size_tokens": 20}, "multiple of 16"),
        ({"page_size_tokens": 0}, "multiple of 16"),
        ({"llvm_cpu": ""}, "needs llvm_triple and llvm_cpu"),
        ({"kind": "cuda"}, "needs cuda_arch"),
        ({"colour": "red"}, "unknown fields colour"),
    ],
)
def test_wrong_record_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        parse_target(CPU | change)


def test_missing_field_is_named() -> None:
    with pytest.raises(TargetError, match="missing fields kind"):
        parse_target({name: value for name, value in CPU.items() if name != "kind"})
