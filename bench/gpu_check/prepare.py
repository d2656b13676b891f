"""A plan to the folder that a machine with a GPU needs: kernels, small models to prove, and
artifacts of real shapes without their weights. Needs no GPU."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ingot.compile.cuda
from ingot.bench.gpu_check.case_files import write_cases
from ingot.bench.gpu_check.plan import (
    DEMO,
    FULL,
    Plan,
    Proof,
    kernels_folder,
    proof_folder,
    shape_folder,
    write_plan,
)
from ingot.errors import UsageError
from ingot.targets import Target


def prepare(
    folder: Path,
    target: Target,
    plan: Plan = FULL,
    *,
    compiler: str = "nvrtc",
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Write the folder, whole or not at all; it must not be there."""
    if folder.exists():
        raise UsageError(f"{folder} exists already", "remove it, or name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        compile_source = ingot.compile.cuda.cuda_compiler(compiler)
        small = plan.small_kernels
        write_cases(kernels_folder(made), target, compile_source, small=small, report=report)
        write_proofs(made, target, plan, compiler, report)
        write_shapes(made, target, plan, compiler, report)
        write_plan(made, replace(plan, archs=target.archs))
        made.chmod(0o755)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def write_proofs(
    folder: Path, target: Target, plan: Plan, compiler: str, report: Callable[[str], None]
) -> None:
    """The demo, and small models with random weights, compiled but not yet proven."""
    from ingot.compile.api import compile_model

    if plan.proves_demo:
        report(f"compiling {DEMO}")
        out = proof_folder(folder, DEMO) / "artifact"
        compile_model(DEMO, target=target, out=out, prove=False, cuda_compiler=compiler)
    for name, proof in plan.proofs.items():
        report(f"compiling {name} to be proven")
        place = proof_folder(folder, name)
        write_random_model(place / "checkpoint", proof)
        compile_model(
            str(place / "checkpoint"),
            target=target,
            quant=proof.scheme,
            out=place / "artifact",
            prove=False,
            cuda_compiler=compiler,
        )


def write_random_model(folder: Path, proof: Proof) -> None:
    """A checkpoint as transformers initializes one."""
    import torch
    from transformers import AutoModelForCausalLM

    from ingot.bench.checkpoint import make_config, train_tokenizer

    torch.manual_seed(0)
    config = make_config(proof.shape)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    train_tokenizer(folder, config.vocab_size)


def write_shapes(
    folder: Path, target: Target, plan: Plan, compiler: str, report: Callable[[str], None]
) -> None:
    """For each shape a configuration, a tokenizer and in each scheme a hollow artifact."""
    from ingot.bench.checkpoint import make_config, train_tokenizer
    from ingot.bench.gpu_check.hollow import write_hollow_artifacts

    for name, shape in plan.shapes.items():
        report(f"compiling {name} in {' and '.join(plan.schemes)}, without its weights")
        place = shape_folder(folder, name)
        place.mkdir(parents=True)
        config = make_config(shape)
        config.save_pretrained(place)
        train_tokenizer(place)
        write_hollow_artifacts(
            config, place, plan.schemes, target, plan.max_context_tokens, compiler
        )
