"""`ingot doctor`: what this machine has and lacks, and what to do about each."""

from __future__ import annotations

import typer

from ingot.cli.options import Json


def doctor(as_json: Json = False) -> None:
    """Say what this machine has and lacks.

    Exit status 1 if it can't run artifacts.
    """
    from dataclasses import asdict

    from ingot.cli.output import print_json, print_table
    from ingot.doctor import examine

    findings = examine()
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        rows = [("ok" if f.ok else "lacks", f.subject, f.value, f.remedy) for f in findings]
        print_table(("", "what", "found", "to do"), rows)
    if any(finding.required and not finding.ok for finding in findings):
        raise typer.Exit(1)
