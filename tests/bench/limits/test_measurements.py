"""Each instruction is measured once, at sizes that the system or the target's data say."""

from pathlib import Path

import pytest

from ingot.bench.limits import measurements
from ingot.bench.limits.measurements import (
    DEFAULT_L3_BYTES,
    machine_sizes,
    read_cache_bytes,
    targets_of_instructions,
)
from ingot.targets import best_cpu_target, detect_cpu

BEST = best_cpu_target(detect_cpu())


def test_every_instruction_has_one_target() -> None:
    found = [i for _, known in targets_of_instructions(BEST) for i in known]
    assert {i.kind for i in found} >= {"float32", "int8"}
    assert len({(i.mnemonic, i.feature) for i in found}) == len(found)


def write_cache(folder: Path, index: int, kind: str, level: int, size: str) -> None:
    cache = folder / f"index{index}"
    cache.mkdir()
    for name, text in (("type", kind), ("level", str(level)), ("size", size)):
        (cache / name).write_text(f"{text}\n")


def test_caches_are_as_large_as_the_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements, "CACHES", tmp_path)
    write_cache(tmp_path, 0, "Instruction", 2, "64K")
    write_cache(tmp_path, 1, "Unified", 2, "512K")
    assert read_cache_bytes(2) == 512 << 10
    assert read_cache_bytes(3) == 0
    sizes = machine_sizes(BEST)
    assert (sizes.l2_bytes, sizes.l3_bytes) == (512 << 10, DEFAULT_L3_BYTES)
    assert sizes.memory_bytes >= 4 * sizes.l3_bytes
