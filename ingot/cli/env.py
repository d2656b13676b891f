"""`ingot env`: the environment variables that Ingot reads, and their values now."""

from __future__ import annotations

from ingot.cli.options import Json


def env(as_json: Json = False) -> None:
    """List the environment variables that Ingot reads."""
    import os

    from ingot.cli.output import print_json, print_table
    from ingot.environment import OTHERS, VARIABLES, read_variable

    values = {v.name: read_variable(v.name) for v in VARIABLES}
    shown = {v.name: "(set)" for v in VARIABLES if v.is_secret and values[v.name]}
    rows = [(v.name, shown.get(v.name, values[v.name]), v.help) for v in VARIABLES]
    rows += [(name, os.environ.get(name), text) for name, text in OTHERS]
    if as_json:
        print_json([dict(zip(("name", "value", "help"), row, strict=True)) for row in rows])
    else:
        print_table(("variable", "value", "meaning"), rows)
