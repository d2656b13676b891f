"""`python -m ingot.bench.gpu_check prepare|run FOLDER`: what `make gpu-check` calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ingot.errors import IngotError

GPU_FIELDS = "name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,clocks.sm,power.limit"
"""Of the first GPU, as nvidia-smi calls them."""

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Check kernels, numbers and speed on a GPU.",
)


@app.command()
def prepare(
    folder: Path,
    target: Annotated[str, typer.Option(help="cuda:sm_80,sm_90, ...")] = "cuda",
    compiler: Annotated[str, typer.Option(help="nvrtc or nvcc.")] = "nvrtc",
) -> None:
    """Write compiled kernels, inputs and right answers to FOLDER. Needs no GPU."""
    from ingot.bench.gpu_check.prepare import prepare as write
    from ingot.compile.cuda import cuda_compiler
    from ingot.targets import resolve_target

    write(folder, resolve_target(target), cuda_compiler(compiler), report=typer.echo)


@app.command()
def run(
    folder: Path,
    artifact: Annotated[Path | None, typer.Option(help="An artifact to prove and time.")] = None,
    model: Annotated[str, typer.Option(help="What the artifact was compiled from.")] = "demo",
    out: Annotated[Path, typer.Option(help="The results, as JSON.")] = Path("gpu-check.json"),
) -> None:
    """Run what `prepare` wrote on this machine's GPU; exits with 1 if anything is wrong."""
    from ingot.bench.gpu_check.artifact import check_artifact, measure_limits
    from ingot.bench.gpu_check.run import check_kernels, measure_upload
    from ingot.bench.machine import query_gpus
    from ingot.runtime.artifact.machine import detect_cuda_arch

    found = query_gpus(GPU_FIELDS)
    card = dict(zip(GPU_FIELDS.split(","), found[0], strict=True)) if found else {}
    results = {
        "gpu": detect_cuda_arch(),
        "card": card,
        "kernels": check_kernels(folder, typer.echo),
    }
    if artifact is not None:
        limits = {**measure_limits(), "upload_gb_s": measure_upload()}
        results |= {"limits": limits, "artifact": check_artifact(artifact, model)}
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    typer.echo(f"results are in {out}; `ingot tune --target cuda` searches faster kernels' sizes")
    if not all(part.get("ok", True) for part in results.values() if isinstance(part, dict)):
        raise typer.Exit(1)


def main() -> None:
    """Run the command; what is wrong for a user to know is one sentence."""
    try:
        app()
    except IngotError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
