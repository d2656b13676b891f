"""Arguments and options that several verbs share, so that they read the same everywhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

Artifact = Annotated[
    Path, typer.Argument(metavar="ARTIFACT", help="Folder that `ingot compile` wrote.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads for compiled code. [default: INGOT_NUM_THREADS or all]"),
]
Draft = Annotated[
    Path | None,
    typer.Option(metavar="ARTIFACT", help="A smaller model of the same vocabulary, to guess."),
]
Speculate = Annotated[
    bool,
    typer.Option("--speculate", help="Guess from what was said before. The text is the same."),
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that the model brings.")
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Read .bin checkpoints, which can run code.")
]


def output_file(help_text: str) -> Any:
    """An option for a file to write; a place that can't be written is refused before the work."""
    return typer.Option(help=help_text, dir_okay=False, callback=_check_place)


def output_folder(help_text: str) -> Any:
    """An option for a folder to write, checked in the same way."""
    return typer.Option(help=help_text, file_okay=False, callback=_check_place)


def _check_place(path: Path | None) -> Path | None:
    if path is not None:
        place = next(parent for parent in path.absolute().parents if parent.exists())
        if not (place.is_dir() and os.access(place, os.W_OK)):
            raise typer.BadParameter(f"{place} is no folder that can be written to")
    return path


def num_threads(given: int | None) -> int:
    """The option's value, else the environment's, else every core that this process may use."""
    from ingot.bench.machine import count_usable_cores
    from ingot.environment import read_variable

    return given or read_variable("INGOT_NUM_THREADS") or count_usable_cores()
