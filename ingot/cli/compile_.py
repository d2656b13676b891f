"""`ingot compile`: a model to an artifact, with the compile report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingot.cli.options import AllowPickle, Json, TrustRemoteCode, output_folder

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Hub id, folder of a checkpoint, or `demo`, which is embedded."
    ),
]


def parse_keep(values: list[str]) -> dict[str, str]:
    """['lm_head=f16'] -> {'lm_head': 'f16'}."""
    from ingot.errors import UsageError

    keep = {}
    for value in values:
        pattern, separator, code = value.rpartition("=")
        if not (separator and pattern and code):
            raise UsageError(f"--keep is {value!r}; it must be PATTERN=FORMAT, as in lm_head=f16")
        keep[pattern] = code
    return keep


def compile_model(
    model: Model,
    target: Annotated[
        str, typer.Option(help="cpu and cuda are this machine; `ingot targets` lists others.")
    ] = "cpu",
    quant: Annotated[
        str | None,
        typer.Option(help="f32, bf16, f16, w8, w4 or, on GPUs, f8. [default: the target's]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Artifact to write. [default: artifacts/MODEL-TARGET-QUANT]")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN=FORMAT", help="Format of matching tensors. Repeatable."),
    ] = None,
    disable: Annotated[
        list[str] | None, typer.Option(metavar="REWRITE", help="Leave a rewrite out. Repeatable.")
    ] = None,
    dump: Annotated[
        Path | None, output_folder("Write the IR after every stage to this folder.")
    ] = None,
    max_context: Annotated[
        int | None, typer.Option(min=1, help="Longest context in tokens. [default: the model's]")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")] = None,
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
    allow_unproven: Annotated[
        bool, typer.Option("--allow-unproven", help="Keep an artifact whose numbers are off.")
    ] = False,
    no_proof: Annotated[
        bool, typer.Option("--no-proof", help="Don't compare with the eager model.")
    ] = False,
    cuda_compiler: Annotated[
        str, typer.Option(help="nvrtc (from PyPI) or nvcc (an installed CUDA toolkit).")
    ] = "nvrtc",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing artifact.")] = False,
    as_json: Json = False,
) -> None:
    """Compile MODEL into an artifact.

    The artifact's numbers are compared with the eager model's; if they are off, nothing is written.
    """
    from ingot.cli.logs import hush_libraries
    from ingot.cli.progress import show_progress
    from ingot.cli.report import print_report
    from ingot.runtime.artifact.machine import resolve_target_here

    found = resolve_target_here(target)
    scheme = quant or found.default_scheme
    name = Path(model).name
    folder = out or Path("artifacts") / f"{name}-{found.name.replace(':', '-')}-{scheme}"
    kept = parse_keep(keep or [])

    from ingot.compile.api import compile_model as compile_  # TVM and torch: seconds

    hush_libraries()
    with show_progress() as report:
        result = compile_(
            model,
            target=found,
            quant=scheme,
            out=folder,
            keep=kept,
            disable=tuple(disable or ()),
            dump=dump,
            max_context_tokens=max_context,
            revision=revision,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
            allow_unproven=allow_unproven,
            prove=not no_proof,
            force=force,
            cuda_compiler=cuda_compiler,
            progress=report,
        )
    print_report(result, as_json=as_json)
