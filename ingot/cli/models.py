"""`ingot models`: the model families that the tests compile and prove."""

from __future__ import annotations

from ingot.cli.options import Json


def models(as_json: Json = False) -> None:
    """List the model families that Ingot is tested with."""
    from ingot.cli.output import print_json, print_table
    from ingot.models.families import FAMILIES

    if as_json:
        rows = [
            {"name": f.name, "model_type": f.model_type, "features": list(f.features)}
            for f in FAMILIES
        ]
        print_json(rows)
    else:
        table = [(f.name, ", ".join(f.features)) for f in FAMILIES]
        print_table(("family", "what it exercises"), table)
