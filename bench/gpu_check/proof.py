"""Artifacts to their proofs against eager on this machine: the demo's and those of small models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingot.bench.gpu_check.plan import DEMO, proof_folder


def prove(folder: Path, of: Sequence[str]) -> dict[str, Any]:
    """The proof of one prepared artifact, whose checkpoint is beside it unless it is the demo."""
    from ingot.models.resolve import resolve_model
    from ingot.verify import verify_artifact

    (name,) = of
    place = proof_folder(folder, name)
    source = resolve_model(DEMO if name == DEMO else str(place / "checkpoint"))
    report = verify_artifact(place / "artifact", source)
    record = report.record()
    return {
        "ok": record.status == "proven",
        "failures": report.failures,
        "proof": record.model_dump(mode="json"),
    }
