"""The doctor says what is there, and for what is not, what to do."""

import re
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingot import doctor
from ingot.targets import Cpu, TargetError

ROOT = Path(__file__).resolve().parents[2]


def test_every_lack_has_a_remedy() -> None:
    findings = doctor.examine()
    assert all(finding.remedy for finding in findings if not finding.ok)
    subjects = [finding.subject for finding in findings]
    assert len(set(subjects)) == len(subjects)
    expected = {"python", "cpu", "apache-tvm", "c compiler", "cuda driver", "cuda runtime"}
    assert expected <= set(subjects)


@pytest.mark.parametrize(
    ("name", "required", "remedy"),
    [("numpy", True, "pip install ingot"), ("torch", False, "pip install 'ingot[compile]'")],
)
def test_missing_package(
    name: str, required: bool, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lack(package: str) -> str:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(doctor.metadata, "version", lack)
    finding = doctor.examine_package(name)
    assert (finding.ok, finding.value, finding.required) == (False, "not installed", required)
    assert finding.remedy.endswith(remedy)


def test_extras_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for package, extra in doctor.EXTRAS.items():
        lines = [line.replace("-", "_") for line in extras[extra]]  # as they are imported
        assert any(re.match(rf"{package}\b", line) for line in lines), package
        assert extra in doctor.PURPOSES


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


@pytest.mark.parametrize(("number", "value"), [(13000, "for CUDA 13.0"), (12080, "for CUDA 12.8")])
def test_driver(number: int, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(version: Any) -> None:
        version._obj.value = number

    driver = SimpleNamespace(cuInit=lambda _: 0, cuDriverGetVersion=tell)
    monkeypatch.setattr(doctor.ctypes, "CDLL", lambda _: driver)
    finding = doctor.examine_cuda_driver()
    assert (finding.value, finding.ok) == (value, number == 13000)
    assert finding.ok or "driver 580 or newer" in finding.remedy


def test_cuda_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def lack(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(doctor.ctypes, "CDLL", lack)
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(doctor, "find_spec", lambda _: found)
    assert "nvidia-cuda-runtime==13.*" in doctor.examine_cuda_runtime().remedy
    library = tmp_path / "cu13" / "lib" / "libcudart.so.13"
    library.parent.mkdir(parents=True)
    library.touch()
    assert doctor.examine_cuda_runtime().value == str(library)
