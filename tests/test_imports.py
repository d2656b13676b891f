"""What a process maps and imports when it runs an artifact: the base install and no more."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
BUILDER = ROOT / "tests/runtime/toy_artifact.py"

# Third-party packages that the runtime may import, with those that they need.
ALLOWED = {
    "ingot",
    "jinja2",
    "markupsafe",
    "ml_dtypes",
    "numpy",
    "tokenizers",
    "tvm_ffi",
    "typing_extensions",
}

RUN = """
import json, sys
from ingot import Engine, SamplingParams
with Engine(sys.argv[1], num_pages=8) as engine:
    params = SamplingParams(max_tokens=4, temperature=0.7, seed=1, logprobs=2)
    done = engine.generate("w3 w1", params)
    chat = engine.chat([{"role": "user", "content": "w4"}], SamplingParams(max_tokens=2))
maps = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
modules = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
print(json.dumps({"modules": modules, "maps": sorted(maps), "tokens": done[0].token_ids}))
"""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    subprocess.run([sys.executable, str(BUILDER), str(folder)], check=True)
    return folder


def run(artifact: Path, *options: str, **environment: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, *options, "-c", RUN, str(artifact)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result


def collect_base_install() -> set[str]:
    """The distributions that `pip install ingot` brings, ingot left out."""
    found: set[str] = set()
    pending = [Requirement(text) for text in metadata.requires("ingot") or []]
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if name not in found:
            found.add(name)
            pending += [Requirement(text) for text in metadata.requires(name) or []]
    return found


def test_the_runtime_imports_only_what_it_may(artifact: Path) -> None:
    modules = run(artifact)["modules"]
    assert isinstance(modules, dict)
    outside = {
        name.partition(".")[0]
        for name, file in modules.items()
        if file and "site-packages" in file and not name.startswith(("_", "sitecustomize"))
    }
    assert outside <= ALLOWED
    assert not [name for name in modules if name.startswith(("ingot.compile", "ingot.models"))]


def test_the_compiler_library_is_never_mapped(artifact: Path) -> None:
    maps = run(artifact)["maps"]
    assert isinstance(maps, list)
    assert any("libtvm_runtime.so" in path for path in maps)
    assert not [path for path in maps if "libtvm_compiler" in path or "torch" in path]


def test_an_artifact_runs_in_the_base_install(artifact: Path, tmp_path: Path) -> None:
    """A folder with links to the base install's packages and nothing else, and no site-packages."""
    (tmp_path / "ingot").symlink_to(ROOT / "ingot")
    for name in collect_base_install():
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
            link = tmp_path / top
            if not link.exists() and not top.startswith("__"):
                link.symlink_to(distribution.locate_file(top))
    assert not (tmp_path / "torch").exists() and not (tmp_path / "transformers").exists()
    bare = run(artifact, "-S", PYTHONPATH=str(tmp_path))
    assert bare["tokens"] == run(artifact)["tokens"]


@pytest.mark.parametrize(("module", "limit_s"), [("ingot", 0.05), ("ingot.runtime.engine", 0.4)])
def test_imports_are_quick(module: str, limit_s: float) -> None:
    """The best of several: the machine may be busy."""
    code = (
        f"import time; start = time.process_time(); import {module}\n"
        "print(time.process_time() - start)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
        for _ in range(5)
    ]
    assert min(times) < limit_s, times
