"""Which C compiler links the machine code, and what is said where there is none."""

from pathlib import Path

import pytest

from ingot.compile.build import find_linker
from ingot.errors import CompileError
from ingot.targets import load_targets

TARGETS = load_targets()


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A target of another architecture than this machine's, and no compiler anywhere."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return "cpu:neoverse-v1"


def test_cross_compiling_without_a_linker_is_told_in_a_sentence(foreign: str) -> None:
    with pytest.raises(CompileError, match="no C compiler for aarch64") as error:
        find_linker(TARGETS[foreign])
    assert "aarch64-linux-gnu-g++, or name one in CXX" in str(error.value.hint)


def test_the_usual_cross_compiler_is_found(foreign: str, tmp_path: Path) -> None:
    compiler = tmp_path / "aarch64-linux-gnu-g++"
    compiler.touch(0o755)
    assert find_linker(TARGETS[foreign]) == str(compiler)


def test_a_compiler_in_the_environment_wins(foreign: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/opt/cross/c++")
    assert find_linker(TARGETS[foreign]) == "/opt/cross/c++"
    assert find_linker(TARGETS["cpu:x86-64-v3"]) == "/opt/cross/c++"
