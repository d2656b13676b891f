"""Environment variables to typed values: every variable that Ingot reads is in this one table."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ingot.errors import UsageError

LOG_LEVELS = ("debug", "info", "warning", "error")


def parse_log_level(text: str) -> str:
    if text.lower() not in LOG_LEVELS:
        raise ValueError(f"one of {', '.join(LOG_LEVELS)}")
    return text.lower()


def parse_positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("a whole number above 0")
    return int(text)


def parse_switch(text: str) -> bool:
    if text.lower() not in ("on", "off"):
        raise ValueError("on or off")
    return text.lower() == "on"


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable. `parse` raises `ValueError` with what is allowed."""

    name: str
    parse: Callable[[str], Any]
    default: Any
    help: str
    is_secret: bool = False


VARIABLES: tuple[Variable, ...] = (
    Variable("INGOT_LOG", parse_log_level, "warning", f"what is logged: {', '.join(LOG_LEVELS)}"),
    Variable(
        "INGOT_NUM_THREADS",
        parse_positive,
        None,
        "threads that compiled code runs on; unset means every core",
    ),
    Variable(
        "INGOT_CUDA_GRAPHS",
        parse_switch,
        True,
        "off launches every kernel of a step on a GPU by itself",
    ),
    Variable(
        "INGOT_API_KEYS",
        str,
        None,
        "keys that `ingot serve` takes, with commas between",
        is_secret=True,
    ),
    Variable(
        "INGOT_API_KEY",
        str,
        None,
        "the key that `ingot bench serve` and `soak` send",
        is_secret=True,
    ),
)

# Read by the libraries underneath; here so that `ingot env` shows the whole picture.
OTHERS: tuple[tuple[str, str], ...] = (
    ("HF_HOME", "where models from the Hugging Face Hub are kept"),
    ("HF_HUB_OFFLINE", "1 keeps the Hugging Face Hub library off the network"),
    ("CUDA_PATH", "the CUDA toolkit that --target cuda takes its headers from"),
    ("XDG_CACHE_HOME", "where measured limits are kept, in ingot/; ~/.cache by default"),
    ("XDG_DATA_HOME", "where tuned sizes are kept, in ingot/tuned/; ~/.local/share by default"),
    ("NO_COLOR", "any value turns colours off"),
)


def read_variable(name: str, environment: Mapping[str, str] | None = None) -> Any:
    """The value of one variable of the table, or its default if it is unset or empty."""
    variable = next(v for v in VARIABLES if v.name == name)
    text = (os.environ if environment is None else environment).get(name, "")
    if not text:
        return variable.default
    try:
        return variable.parse(text)
    except ValueError as error:
        raise UsageError(f"{name} is {text!r}; it must be {error}") from None


def check_names(environment: Mapping[str, str] | None = None) -> None:
    """Refuse a variable that starts like ours and isn't: a misspelt setting would be ignored."""
    known = [variable.name for variable in VARIABLES]
    for name in os.environ if environment is None else environment:
        if name.startswith("INGOT_") and name not in known:
            import difflib

            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "`ingot env` lists them"
            raise UsageError(f"unknown environment variable {name}", hint)
