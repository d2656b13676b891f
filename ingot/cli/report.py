"""What a compile did to a table: each stage's time, what each rewrite matched, and the proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingot.compile.api import CompileResult


def print_report(result: CompileResult, *, as_json: bool) -> None:
    from ingot.cli.output import format_bytes, print_fields, print_json, print_table

    manifest, report = result.manifest, result.report
    if as_json:
        record = {
            "path": str(result.path),
            "report": report.as_dict(),
            "proof": manifest.proof.model_dump(mode="json"),
        }
        print_json(record)
        return
    rows = [
        (stage.name, f"{stage.seconds:.2f}", "" if stage.num_matched is None else stage.num_matched)
        for stage in report.stages
    ]
    print_table(("stage", "seconds", "matched"), rows)
    left = report.leftover_operators
    size = sum(file.bytes for file in manifest.files)
    print()
    print_fields(
        {
            "artifact": f"{result.path} ({format_bytes(size)})",
            "model": manifest.model.name,
            "target": manifest.target.name,
            "scheme": manifest.scheme.name,
            **({"sizes": report.sizes} if report.sizes else {}),
            "not fused": ", ".join(f"{name} {n}" for name, n in sorted(left.items())) or "none",
            **({"spilling": ", ".join(sorted(set(report.spilling)))} if report.spilling else {}),
            "proof": manifest.proof.status,
        }
    )
