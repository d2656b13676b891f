"""Measured sizes of the kernels: `ingot tune` writes them, compiling reads them.

One TOML file a target, in the user's folder or shipped in `data/tuned/`; the user's wins. Sizes
change how fast a kernel is and not what it means.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from ingot.targets.target import Size, Target, TargetError

CPU_PARAMETERS: dict[str, str] = {
    "attention_block_rows": "rows (tokens times heads) of one attention block, at most",
    "attention_enough_blocks": "blocks of attention from which a context is not split over cores",
    "matmul_dot_rows": "rows of one register tile of an int8 matmul",
    "matmul_prefetch_bytes": "how far ahead a matmul of several rows asks for its weights",
    "matmul_tiles_per_task": "register tiles of one parallel task of a matmul, at most",
}

CUDA_PARAMETERS: dict[str, str] = {
    "attention_span": "positions of one span where the context of few rows is split over blocks",
    "attention_split_rows": "rows up to which the context is split over blocks",
    "attention_stages": "pages of one attention block that are in shared memory, at most",
    "attention_warps": "warps, of 16 rows each, of an attention block that walks its whole context",
    "matmul_8_rows": "up to 8 rows: warps across features, warps along inputs, inputs of x and "
    "stages of weights in shared memory",
    "matmul_16_rows": "the same up to 16 rows",
    "matmul_64_rows": "the same up to 64 rows",
    "matmul_enough_blocks": "blocks up to which those of few rows share a tile's inputs",
    "matmul_most_few_rows": "rows up to which a matmul reads each weight once, into registers",
    "matmul_stages": "steps of a matmul of many rows that are in shared memory, at most",
    "matmul_tile": "rows and features of one block of a matmul of many rows by mma",
    "matmul_wgmma_rows": "rows of one block of a matmul of many rows by wgmma, at most: 128 or 256",
}

PARAMETERS: dict[str, dict[str, str]] = {"cpu": CPU_PARAMETERS, "cuda": CUDA_PARAMETERS}
"""The sizes that there are for each kind of target, and what they are of."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """The sizes for one target, where they were measured and with the kernels of which model."""

    target: str
    device: str
    shapes: str
    parameters: tuple[tuple[str, Size], ...]

    def __post_init__(self) -> None:
        for name, size in self.parameters:
            if name not in self.known:
                raise TargetError(
                    f"no kernel has a size called {name!r}; sizes are {', '.join(self.known)}"
                )
            numbers = size if isinstance(size, tuple) else (size,)
            if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in numbers):
                raise TargetError(f"the tuned size {name} is {size!r}; it is a number from 1 on")

    @property
    def known(self) -> dict[str, str]:
        return PARAMETERS.get(self.target.partition(":")[0], {})


def user_folder() -> Path:
    """Where a user's own measurements are kept."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "ingot" / "tuned"


def file_name(target: str) -> str:
    """cpu:znver4 -> cpu-znver4.toml, as the target's own file is called."""
    return f"{target.replace(':', '-')}.toml"


def find_tuning(target: Target) -> Tuning | None:
    """The sizes for a target: the user's, else those that ship with Ingot, else none.

    Code for several GPUs takes those of the newest that has any.
    """
    names = [target.name, *(f"cuda:{arch}" for arch in reversed(target.archs))]
    for name in map(file_name, dict.fromkeys(names)):
        own = user_folder() / name
        if own.is_file():
            return parse_tuning(own.read_text("utf-8"), str(own))
        shipped = files("ingot.targets") / "data" / "tuned" / name
        if shipped.is_file():
            return parse_tuning(shipped.read_text("utf-8"), name)
    return None


def with_tuning(target: Target, tuning: Tuning | None) -> Target:
    """The target with measured sizes in place of guesses."""
    return target if tuning is None else replace(target, tuned=tuning.parameters)


def parse_tuning(text: str, where: str) -> Tuning:
    try:
        record: dict[str, Any] = tomllib.loads(text)
        sizes = {
            name: tuple(size) if isinstance(size, list) else size
            for name, size in record.pop("parameters").items()
        }
        return Tuning(parameters=tuple(sorted(sizes.items())), **record)
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise TargetError(
            f"{where} holds no tuned sizes: {error}", "write it again with `ingot tune`"
        ) from None


def format_tuning(tuning: Tuning) -> str:
    """The file's text, a line of explanation above each size."""
    lines = [
        "# Written by `ingot tune`: sizes of the kernels, measured.",
        f'target = "{tuning.target}"',
        f'device = "{tuning.device}"',
        f'shapes = "{tuning.shapes}"',
        "",
        "[parameters]",
    ]
    for name, size in tuning.parameters:
        value = list(size) if isinstance(size, tuple) else size
        lines += [f"# {tuning.known[name]}", f"{name} = {value}"]
    return "\n".join(lines) + "\n"


def write_tuning(tuning: Tuning, folder: Path | None = None) -> Path:
    path = (folder or user_folder()) / file_name(tuning.target)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(format_tuning(tuning), encoding="utf-8")
    return path


def describe_tuning(tuning: Tuning | None, target: Target) -> str:
    """A sentence for the report: whether sizes were measured, and where."""
    if tuning is None and target.kind == "cuda":
        return "guessed from the target's data; `ingot tune --target cuda` measures them on a GPU"
    if tuning is None:
        return "guessed from the target's data; `ingot tune` measures them"
    return f"measured on {tuning.device}, by kernels of {tuning.shapes}"
