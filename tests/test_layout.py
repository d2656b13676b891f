"""Folders, links and pyproject.toml agree; no file is too long; a wheel holds everything."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("bench", "compile", "models", "runtime", "targets")
SOURCES = ("ingot", *PARTS, "tests")
MAX_LINES = 500


def read_setuptools() -> dict[str, Any]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    table: dict[str, Any] = config["tool"]["setuptools"]
    return table


def find_packages() -> set[str]:
    found = set()
    for top in ("ingot", *PARTS):
        for init in (ROOT / top).rglob("__init__.py"):  # ** does not enter links
            parts = init.parent.relative_to(ROOT).parts
            found.add(".".join(parts if top == "ingot" else ("ingot", *parts)))
    return found


def test_every_package_is_listed() -> None:
    assert sorted(find_packages()) == sorted(read_setuptools()["packages"])


def test_every_source_is_in_a_package() -> None:
    for top in ("ingot", *PARTS):
        for source in (ROOT / top).rglob("*.py"):
            assert (source.parent / "__init__.py").exists(), f"{source.parent} has no __init__.py"


@pytest.mark.parametrize("part", PARTS)
def test_link_points_at_the_part(part: str) -> None:
    link = ROOT / "ingot" / part
    assert link.resolve() == ROOT / part, "run: git config core.symlinks true && git checkout ingot"


@pytest.mark.parametrize("part", PARTS)
def test_part_is_not_a_top_level_module(part: str) -> None:
    assert part not in sys.modules


def test_no_file_is_too_long() -> None:
    lengths = {
        str(source.relative_to(ROOT)): len(source.read_text().splitlines())
        for top in SOURCES
        for source in (ROOT / top).rglob("*.py")
    }
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}


def test_tests_are_not_packages() -> None:
    # An __init__.py in tests/compile would make pytest register a top-level package `compile`.
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_links_between_documents_exist() -> None:
    missing = []
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text()):
            if not link.startswith(("http://", "https://")):
                if not (document.parent / link).exists():
                    missing.append(f"{document.name}: {link}")
    assert missing == []


def test_wheel_is_whole_and_starts(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    ignore = shutil.ignore_patterns(
        ".*", "__pycache__", "artifacts", "build", "dist", "*.egg-info", "tests", "results"
    )
    shutil.copytree(ROOT, checkout, symlinks=True, ignore=ignore)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path)]
    subprocess.run([*pip, *build, str(checkout)], check=True, stdin=subprocess.DEVNULL)
    (wheel,) = tmp_path.glob("ingot-*.whl")
    site = tmp_path / "site"
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)],
        check=True,
        stdin=subprocess.DEVNULL,
    )

    packed = {str(path.relative_to(site)) for path in (site / "ingot").rglob("*.py")}
    expected = set()
    for top in ("ingot", *PARTS):
        for source in (ROOT / top).rglob("*.py"):
            relative = source.relative_to(ROOT)
            expected.add(str(relative if top == "ingot" else Path("ingot") / relative))
    assert packed == expected
    for package, globs in read_setuptools()["package-data"].items():
        folder = Path(*package.split("."))
        for data in (path for glob in globs for path in (ROOT / folder).glob(glob)):
            if data.is_file():
                assert (site / folder / data.relative_to(ROOT / folder)).is_file(), data

    run = subprocess.run(
        [sys.executable, "-m", "ingot.cli", "targets", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == 0, run.stderr
    assert "cpu:x86-64-v3" in run.stdout
