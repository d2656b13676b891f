"""Turns a function into a command of its own (`python -m ...`): a mistake is one sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer

from ingot.errors import IngotError, UsageError


def run_command(main: Callable[..., Any]) -> None:
    """Run it with the process's arguments; a user's mistake ends it with 2, what failed with 1."""
    try:
        typer.run(main)
    except IngotError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, UsageError) else 1) from None
