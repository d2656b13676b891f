"""Turns the options that `run` and `chat` share into an engine for one conversation."""

from __future__ import annotations

from pathlib import Path

from ingot.cli.progress import show_upload
from ingot.environment import read_variable
from ingot.runtime import Engine


def open_engine(
    artifact: Path, *, speculate: bool, draft: Path | None, threads: int | None
) -> Engine:
    """Load an artifact, with a bar where its weights go to a GPU."""
    with show_upload() as on_progress:
        return Engine(
            artifact,
            num_threads=threads or read_variable("INGOT_NUM_THREADS"),
            max_sequences=1,
            speculation="prompt-lookup" if speculate else None,
            draft=draft,
            on_progress=on_progress,
        )
