"""The command line's own declarations to `docs/cli.md`: `python -m ingot.cli.docs`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from ingot.cli import app
from ingot.environment import OTHERS, VARIABLES

HEADER = """# Command line

Written by `make docs` from the command line itself; change it there.

Data goes to stdout, progress and logs to stderr; `--json` prints what a program can read. Exit
status: 0, 1 for a failure, 2 for a wrong option, 130 after Ctrl-C.
"""


def walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words that call it."""
    children = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name, child in children.items():
        yield from walk(child, f"{path} {name}")


def describe_parameter(parameter: Any) -> tuple[str, str]:
    """The first cell and the second of a parameter's row."""
    text = parameter.help or ""
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`", text
    flags = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if not parameter.is_flag:
        flags += f" {parameter.metavar or parameter.name.upper().replace('_', '-')}"
    if parameter.default not in (None, False, "") and "[default" not in text:
        text = f"{text} [default: {parameter.default}]"
    return f"`{flags}`", text


def describe_paragraph(text: str) -> str:
    """One line, or a block of commands where click keeps the lines apart."""
    if not text.startswith("\b"):
        return " ".join(text.split())
    commands = "\n".join(line.strip() for line in text.splitlines()[1:])
    return f"```\n{commands}\n```"


def describe_command(path: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([path, *(p.name.upper() for p in arguments), "[OPTIONS]"])
    rows = [describe_parameter(p) for p in command.params if p.name != "help"]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    table = "".join(f"| {left} | {right} |\n" for left, right in escaped)
    text = "\n\n".join(map(describe_paragraph, command.help.split("\n\n")))
    return f"## {path}\n\n{text}\n\n```\n{usage}\n```\n\n| | |\n| --- | --- |\n{table}"


def describe_environment() -> str:
    rows = [(v.name, v.help, v.default) for v in VARIABLES]
    rows += [(name, text, None) for name, text in OTHERS]
    table = "".join(f"| `{name}` | {text} | {default or ''} |\n" for name, text, default in rows)
    return f"## Environment\n\n| variable | meaning | default |\n| --- | --- | --- |\n{table}"


def write_docs() -> str:
    """The whole page."""
    commands = walk(typer.main.get_command(app), "ingot")
    sections = [describe_command(path, command) for path, command in commands]
    return "\n".join([HEADER, *sections, describe_environment()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/cli.md"))
    parser.parse_args().out.write_text(write_docs(), encoding="utf-8")


if __name__ == "__main__":
    main()
