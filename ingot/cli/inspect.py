"""`ingot inspect`: what is in an artifact, for people or as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingot.cli.options import Artifact, Json, Threads, num_threads

if TYPE_CHECKING:
    from ingot.runtime.artifact import Manifest


GRID = """\
grid: blocks along x, y and z, for n tokens, b sequences and m rows of logits in the step; ? is a
number that the host computes from these, and another name is TVM's for one of them"""


def describe_kernels(manifest: Manifest) -> dict[str, object]:
    """One line on the kernels of a GPU; nothing for a CPU, whose kernels are in `model.so`."""
    from ingot.cli.output import format_bytes

    if not manifest.kernels:
        return {}
    names = {kernel.name for kernel in manifest.kernels}
    registers = max(kernel.registers for kernel in manifest.kernels)
    shared = format_bytes(max(kernel.shared_bytes for kernel in manifest.kernels))
    spilling = ", ".join(sorted({k.name for k in manifest.kernels if k.spill_bytes}))
    return {
        "kernels": f"{len(names)}, at most {registers} registers a thread and {shared} "
        f"of shared memory a block; spilling: {spilling or 'none'}"
    }


def kernel_rows(manifest: Manifest) -> list[tuple[object, ...]]:
    """What each kernel takes on each kind of GPU."""
    from ingot.cli.output import format_bytes

    return [
        (k.name, k.arch, " x ".join(k.grid), k.threads, k.registers)
        + (format_bytes(k.shared_bytes), k.spill_bytes)
        for k in manifest.kernels
    ]


def summarize(manifest: Manifest) -> dict[str, object]:
    """The manifest's facts, one line each."""
    from ingot.cli.output import format_bytes

    model, target, scheme, step = manifest.model, manifest.target, manifest.scheme, manifest.step
    isa = ", ".join(target.cuda_archs) or f"{target.llvm_cpu} ({' '.join(target.features)})"
    by_dtype: dict[str, int] = {}
    for weight in manifest.weights:
        by_dtype[weight.dtype] = by_dtype.get(weight.dtype, 0) + weight.bytes
    sizes = ", ".join(f"{name} {format_bytes(size)}" for name, size in sorted(by_dtype.items()))
    kv_token_bytes = sum(slot.token_bytes for slot in manifest.kv_slots)
    kept = "".join(f", {pattern} as {code}" for pattern, code in scheme.keep.items())
    return {
        "model": f"{model.name} ({model.architecture}, {model.num_parameters:,} parameters)",
        "source": f"{model.source}{f' at {model.revision}' if model.revision else ''}",
        "target": f"{target.name}: {isa}",
        "scheme": f"{scheme.name}: linear {scheme.linear}, embedding {scheme.embedding}, "
        f"head {scheme.head}, activations {scheme.activations}{kept}",
        "layers": f"{step.num_layers} of hidden size {step.hidden_size:,}, "
        f"vocabulary {step.vocab_size:,}",
        "context": f"{step.max_context_tokens:,} tokens",
        "kv cache": f"{format_bytes(kv_token_bytes)} a token ({scheme.kv_dtype}), "
        f"pages of {target.page_size_tokens} tokens",
        "weights": f"{len(manifest.weights)} tensors, "
        f"{format_bytes(sum(by_dtype.values()))}: {sizes}",
        "files": ", ".join(f"{file.path} {format_bytes(file.bytes)}" for file in manifest.files),
        **describe_kernels(manifest),
        "rewrites": ", ".join(f"{r.name} {r.matched}" for r in manifest.rewrites) or "none",
        "proof": manifest.proof.status,
        "versions": ", ".join(f"{k} {v}" for k, v in sorted(manifest.versions.items())),
    }


def make_forecast(
    manifest: Manifest,
    context: int | None,
    batch: int,
    threads: int | None,
    limits_file: Path | None,
) -> dict[str, Any]:
    """The case, its memory in bytes, and its times in seconds or why there are none."""
    from dataclasses import asdict

    from ingot.bench.forecast import forecast_memory, forecast_times
    from ingot.bench.limits.record import read_limits, stored_limits
    from ingot.errors import IngotError, UsageError

    context = context or manifest.step.max_context_tokens
    wanted = num_threads(threads)
    memory = forecast_memory(manifest, context, batch)
    found: dict[str, Any] = {
        "context": context,
        "batch": batch,
        "threads": wanted,
        "memory": {**asdict(memory), "total": memory.total},
    }
    limits = read_limits(limits_file) if limits_file else stored_limits(wanted)
    if limits is None:
        missing = f"no limits of this machine with {wanted} threads: run `ingot bench limits`"
        return {**found, "no_times": missing}
    try:
        return {**found, "times": asdict(forecast_times(manifest, limits, context, batch))}
    except UsageError:
        raise
    except IngotError as error:
        return {**found, "no_times": error.message}


def describe_forecast(forecast: dict[str, Any]) -> dict[str, object]:
    """The forecast's facts, one line each."""
    from ingot.cli.output import format_bytes

    memory = {name: format_bytes(size) for name, size in forecast["memory"].items()}
    case = f"context {forecast['context']:,}, batch {forecast['batch']}"
    lines: dict[str, object] = {
        "forecast": case,
        "memory": f"{memory['total']}: weights {memory['weights']}, kv cache {memory['kv']} "
        f"({memory['kv_per_token']} a token), workspace {memory['workspace']}",
    }
    if "no_times" in forecast:
        return {**lines, "times": forecast["no_times"]}
    times, batch = forecast["times"], forecast["batch"]
    return {
        **lines,
        "first token": f"{times['ttft_s'] * 1e3:,.1f} ms at the limits of this machine, "
        f"{forecast['threads']} threads ({batch * forecast['context'] / times['ttft_s']:,.0f} "
        "tokens/s)",
        "each token": f"{times['tpot_s'] * 1e3:,.2f} ms ({batch / times['tpot_s']:,.0f} tokens/s)",
    }


def inspect(
    artifact: Artifact,
    weights: Annotated[bool, typer.Option("--weights", help="List every tensor.")] = False,
    kernels: Annotated[
        bool, typer.Option("--kernels", help="List every kernel for a GPU and what it takes.")
    ] = False,
    context: Annotated[
        int | None, typer.Option(min=1, help="Forecast memory and times at this context.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Forecast for so many sequences at a time.")
    ] = None,
    threads: Threads = None,
    limits: Annotated[
        Path | None, typer.Option(help="Forecast from this file of `ingot bench limits`.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what is in an artifact.

    Reads the manifest alone, so it works whatever the artifact is for. With --context or --batch it
    forecasts memory and, from this machine's limits, the least time to the first token and for each
    further one.
    """
    from ingot.cli.output import format_bytes, print_fields, print_json, print_table
    from ingot.cli.proof import print_proof
    from ingot.errors import UsageError
    from ingot.runtime.artifact import read_manifest

    manifest = read_manifest(artifact)
    if kernels and not manifest.kernels:
        raise UsageError(
            f"--kernels lists a GPU's kernels; those for {manifest.target.name} are in model.so",
            "`ingot profile` times each of them",
        )
    forecast = None
    if context is not None or batch is not None:
        forecast = make_forecast(manifest, context, batch or 1, threads, limits)
    if as_json:
        shown = manifest.model_dump(mode="json")
        print_json(shown if forecast is None else {**shown, "forecast": forecast})
        return
    print_fields(summarize(manifest))
    if forecast is not None:
        print()
        print_fields(describe_forecast(forecast))
    if manifest.proof.figures:
        print()
        print_proof(manifest.proof.figures)
    if weights:
        print()
        print_table(
            ("tensor", "dtype", "shape", "size"),
            [
                (w.name, w.dtype, "x".join(map(str, w.shape)), format_bytes(w.bytes))
                for w in manifest.weights
            ],
        )
    if kernels:
        print()
        columns = ("kernel", "arch", "grid", "threads", "registers", "shared", "spilled bytes")
        print_table(columns, kernel_rows(manifest))
        print("\n" + GRID)
