"""The scripts in examples/ run as they are."""

import ast
import asyncio
import inspect
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example(script: Path, toy_folder: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(script), str(toy_folder), "w3 w1", "w4 w1 w5"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert "tokens" in run.stdout


def test_the_guide_to_embedding_runs(
    toy_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The code blocks of docs/embedding.md, one after the other, as in one program."""
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts/demo").symlink_to(toy_folder)
    monkeypatch.chdir(tmp_path)
    from ingot import Engine, SamplingParams
    from ingot.runtime.constraints import Choice

    guide = (ROOT / "docs/embedding.md").read_text(encoding="utf-8")
    guide = guide.replace("num_threads=8", "num_threads=1")
    blocks = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert len(blocks) == 6
    with Engine("artifacts/demo") as engine, ThreadPoolExecutor(1) as thread_pool:
        names: dict[str, Any] = {
            "prompt": "w1 w2",
            "prompts": ["w1 w2", "w3"],
            "texts": ["w1", "w2 w3", "w4"],
            "params": SamplingParams(max_tokens=4, constraint=Choice(["w1", "w2"])),
            "thread_pool": thread_pool,
            "path": "artifacts/demo",
        }
        for block in blocks:
            code = compile(block, "embedding.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            names["engine"] = engine  # a block before may have closed one of its own
            if code.co_flags & inspect.CO_COROUTINE:
                asyncio.run(eval(code, names))
            else:
                exec(code, names)
