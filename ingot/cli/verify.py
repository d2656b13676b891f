"""`ingot verify`: an artifact against the eager model, and the rewrite at fault if they differ."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingot.cli.options import AllowPickle, Artifact, Json, TrustRemoteCode

if TYPE_CHECKING:
    from ingot.compile.proof import ProofReport
    from ingot.verify import Trial


def describe(report: ProofReport) -> dict[str, Any]:
    return {
        "proven": report.is_proven,
        "failures": list(report.failures),
        "first_departing_layer": report.first_departing_layer,
        "figures": report.figures,
    }


def print_verdict(report: ProofReport) -> None:
    from ingot.cli.output import print_fields
    from ingot.cli.proof import print_proof

    print_proof(report.figures)
    layer = report.first_departing_layer
    print_fields(
        {
            "first layer that departs": layer if layer is not None else "none",
            "verdict": "proven" if report.is_proven else "; ".join(report.failures),
        }
    )


def describe_trial(trial: Trial) -> tuple[str, float, str]:
    kernels = trial.report.figures["kernels"]
    error = max(max(kernels[phase]["worst"]) for phase in ("prefill", "decode"))
    return trial.without or "(nothing)", error, "right" if trial.report.is_proven else "off"


def verify(
    artifact: Artifact,
    model: Annotated[
        str | None, typer.Option(help="The model it was made from. [default: as it says]")
    ] = None,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="If it is off, find the rewrite at fault.")
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
    as_json: Json = False,
) -> None:
    """Compare an artifact with the eager model.

    Every layer, logits and text, in prefill and in decode; exit status 1 if they are off.
    """
    from ingot.cli.logs import hush_libraries
    from ingot.cli.output import print_json, print_table
    from ingot.cli.progress import show_progress
    from ingot.runtime.artifact import read_manifest
    from ingot.source import find_source
    from ingot.verify import bisect_rewrites, verify_artifact

    hush_libraries()
    source = find_source(
        read_manifest(artifact),
        model,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
    )
    with show_progress() as progress:
        report = verify_artifact(artifact, source, progress=progress)
    record = describe(report)
    if not as_json:
        print_verdict(report)
    if bisect and not report.is_proven:
        trials = []
        for trial in bisect_rewrites(artifact, source):
            trials.append(trial)
            print("without {}: {}".format(*describe_trial(trial)[::2]), file=sys.stderr)
        record["bisect"] = [{"without": t.without, **describe(t.report)} for t in trials]
        if not as_json:
            print()
            rows = [describe_trial(trial) for trial in trials]
            print_table(("compiled without", "worst error", "verdict"), rows)
    if as_json:
        print_json(record)
    if not report.is_proven:
        raise typer.Exit(1)
