"""An engine's name and the Python that has it to what one of its processes says."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import ingot
from ingot.bench.process import timed_environment
from ingot.errors import UsageError


def run_module(name: str, module: str, python: str, arguments: Iterable[str], threads: int) -> str:
    """Stdout of a module of this package; raises `UsageError` with its last words if it fails."""
    package = str(Path(ingot.__file__).resolve().parent.parent)
    environment = timed_environment(threads) | {"PYTHONPATH": package}
    done = subprocess.run(
        [python, "-m", f"ingot.bench.peers.{module}", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).splitlines()
        last = [line for line in said if line.strip()][-2:]
        raise UsageError(f"{name} failed: {' '.join(last)}")
    return done.stdout


def engine_of(name: str) -> str:
    """`llama.cpp` of `llama.cpp/Q4_0`: several forms of a model may run in one engine."""
    return name.partition("/")[0]


def parse_pairs(pairs: Iterable[str], engines: Mapping[str, str]) -> dict[str, str]:
    """`NAME=VALUE` texts as a mapping; NAME is ENGINE or ENGINE/FORM."""
    parsed = {}
    for text in pairs:
        name, equals, value = text.partition("=")
        if engine_of(name) not in engines or not equals:
            raise UsageError(f"{text!r} is not ENGINE=PATH; engines are {', '.join(engines)}")
        parsed[name] = value
    return parsed


def describe_command(module: str, arguments: Iterable[str]) -> str:
    """The command without the paths of its engines, which mean nothing on another machine."""
    words = [
        text.partition("=")[0] + "=PATH" if "=" in text else text for text in arguments if text
    ]
    return " ".join([f"python -m {module}", *words])
