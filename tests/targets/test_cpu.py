"""What a CPU has is read from the kernel's own text."""

from pathlib import Path

import pytest

from ingot.targets import TargetError, cpu, detect_cpu, load_targets

X86 = """processor\t: 0
model name\t: Example CPU @ 2.40GHz
flags\t\t: fpu avx2 fma f16c bmi1 bmi2 abm movbe

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp asimdhp atomics fphp\nCPU part\t: 0xd0c\n"


def test_x86_reads_the_first_processor() -> None:
    found = detect_cpu(X86, "x86_64")
    assert found.model_name == "Example CPU @ 2.40GHz"
    assert "avx2" in found.features and "avx512f" not in found.features
    assert found.num_cores >= 1


def test_arm_has_features_and_no_name() -> None:
    found = detect_cpu(ARM, "aarch64")
    assert found.model_name == "unknown"
    assert "asimddp" in found.features


def test_missing_names_the_instruction_sets() -> None:
    targets = load_targets()
    found = detect_cpu(X86, "x86_64")
    assert found.missing(targets["cpu:x86-64-v3"]) == ()
    assert found.missing(targets["cpu:x86-64-v4"])[0] == "avx512f"
    assert found.missing(targets["cpu:neoverse-n1"]) == ("aarch64",)


def test_text_without_features_is_an_error() -> None:
    with pytest.raises(TargetError, match="CPU features is missing"):
        detect_cpu("processor : 0\n", "x86_64")


def test_unreadable_cpuinfo_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "absent")
    with pytest.raises(TargetError, match="No such file"):
        detect_cpu()
