"""Measured sizes of the CPU kernels: `ingot tune` writes them, compiling reads them.

One TOML file a target, in the user's folder or shipped in `data/tuned/`; the user's wins. Sizes
change how fast a kernel is and never what it computes.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from ingot.targets.target import Target, TargetError

PARAMETERS: dict[str, str] = {
    "attention_block_rows": "rows (tokens times heads) of one attention block, at most",
    "attention_enough_blocks": "blocks of attention from which a context is not split over cores",
    "matmul_dot_rows": "rows of one register tile of an int8 matmul",
    "matmul_prefetch_bytes": "how far ahead a matmul of several rows asks for its weights",
    "matmul_tiles_per_task": "register tiles of one parallel task of a matmul, at most",
}


@dataclass(frozen=True, slots=True)
class Tuning:
    """The sizes for one target, and where they were measured."""

    target: str
    cpu: str
    threads: int
    parameters: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        for name, size in self.parameters:
            if name not in PARAMETERS:
                known = ", ".join(PARAMETERS)
                raise TargetError(f"no kernel has a size called {name!r}; sizes are {known}")
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise TargetError(f"the tuned size {name} is {size!r}; it is a number from 1 on")


def user_folder() -> Path:
    """Where a user's own measurements are kept."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "ingot" / "tuned"


def file_name(target: str) -> str:
    """cpu:znver4 -> cpu-znver4.toml, as the target's own file is called."""
    return f"{target.replace(':', '-')}.toml"


def find_tuning(target: Target) -> Tuning | None:
    """The sizes for a target: the user's, else those that ship with Ingot, else none."""
    name = file_name(target.name)
    own = user_folder() / name
    if own.is_file():
        return parse_tuning(own.read_text("utf-8"), str(own))
    shipped = files("ingot.targets") / "data" / "tuned" / name
    return parse_tuning(shipped.read_text("utf-8"), name) if shipped.is_file() else None


def with_tuning(target: Target, tuning: Tuning | None) -> Target:
    """The target with measured sizes in place of guesses."""
    return target if tuning is None else replace(target, tuned=tuning.parameters)


def parse_tuning(text: str, where: str) -> Tuning:
    try:
        record: dict[str, Any] = tomllib.loads(text)
        parameters = tuple(sorted(record.pop("parameters").items()))
        return Tuning(parameters=parameters, **record)
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise TargetError(
            f"{where} holds no tuned sizes: {error}", "write it again with `ingot tune`"
        ) from None


def format_tuning(tuning: Tuning) -> str:
    """The file's text, a line of explanation above each size."""
    lines = [
        "# Written by `ingot tune`: sizes of the CPU kernels, measured.",
        f'target = "{tuning.target}"',
        f'cpu = "{tuning.cpu}"',
        f"threads = {tuning.threads}",
        "",
        "[parameters]",
    ]
    for name, size in tuning.parameters:
        lines += [f"# {PARAMETERS[name]}", f"{name} = {size}"]
    return "\n".join(lines) + "\n"


def write_tuning(tuning: Tuning, folder: Path | None = None) -> Path:
    path = (folder or user_folder()) / file_name(tuning.target)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(format_tuning(tuning), encoding="utf-8")
    return path


def describe_tuning(tuning: Tuning | None) -> str:
    """A sentence for the report: whether sizes were measured, and where."""
    if tuning is None:
        return "guessed from the target's data; `ingot tune` measures them"
    return f"measured on {tuning.cpu} with {tuning.threads} threads"
