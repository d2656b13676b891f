"""The doctor says what is there, and for what is not, what to do."""

from pathlib import Path

import pytest

from ingot import doctor
from ingot.targets import Cpu, TargetError


def test_every_lack_has_a_remedy() -> None:
    findings = doctor.examine()
    assert all(finding.remedy for finding in findings if not finding.ok)
    subjects = [finding.subject for finding in findings]
    assert len(set(subjects)) == len(subjects)
    assert {"python", "cpu", "apache-tvm", "c compiler", "cuda driver"} <= set(subjects)


def test_missing_package() -> None:
    finding = doctor.examine_package("no-such-package", True, "pip install it")
    assert (finding.ok, finding.value, finding.remedy) == (False, "not installed", "pip install it")
    assert finding.required


def test_memory(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  8000000 kB\nMemAvailable:  1000000 kB\n")
    finding = doctor.examine_memory(meminfo)
    assert not finding.ok
    assert finding.value == "1.0 GB available of 8.2 GB"
    assert not doctor.examine_memory(tmp_path / "absent").ok


def test_unfit_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    old = Cpu("Old", "x86_64", frozenset({"sse2"}), 1)
    monkeypatch.setattr(doctor, "detect_cpu", lambda: old)
    findings = {finding.subject: finding for finding in doctor.examine_cpu()}
    assert not findings["isa"].ok and findings["isa"].required


def test_unknown_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Cpu:
        raise TargetError("can't be read", "name the target")

    monkeypatch.setattr(doctor, "detect_cpu", fail)
    (finding,) = doctor.examine_cpu()
    assert (finding.value, finding.remedy) == ("can't be read", "name the target")


def test_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    finding = doctor.examine_compiler()
    assert not finding.ok
    assert "no-such-compiler" in finding.value
