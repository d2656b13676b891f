"""A target's name and what a user asked for to the target and the bench of this machine."""

from __future__ import annotations

from ingot.bench.tune.trial import Bench
from ingot.errors import UsageError
from ingot.runtime.artifact.machine import (
    detect_cuda_arch,
    detect_machine,
    device_code_for,
    resolve_target_here,
)
from ingot.targets import Target, detect_cpu


def find_target(name: str) -> Target:
    """The target to tune for, which this machine runs; `cuda` is that of its GPU."""
    machine = detect_machine()
    target = resolve_target_here(name)
    if target.kind == "cuda":
        gpu = machine.cuda_arch
        if gpu is None:
            raise UsageError(
                f"sizes for {target.name} are measured on the GPU, and this machine has none",
                "run `ingot tune --target cuda` where the model will run; without it, compiling "
                "guesses",
            )
        if device_code_for(gpu, target.archs) is None:
            raise UsageError(f"this machine's GPU ({gpu}) can't run {target.name}")
        if target.shared_memory_bytes > machine.block_shared_bytes:
            raise UsageError(
                f"this machine's GPU ({gpu}) has less shared memory than {target.name}",
                "`--target cuda` is the target that fits it",
            )
        return target
    lacking = detect_cpu().missing(target)
    if lacking:
        raise UsageError(f"this machine can't run {target.name}: it lacks {', '.join(lacking)}")
    return target


def make_bench(
    target: Target, *, threads: int, model: str | None, quant: str | None, cuda_compiler: str
) -> Bench:
    """What there is to search for the target on this machine."""
    if target.kind == "cpu":
        if model or quant:
            raise UsageError(
                "--model and --quant are for GPUs; sizes of CPU kernels belong to the machine"
            )
        from ingot.bench.tune.cpu import cpu_bench

        return cpu_bench(target, threads)
    from ingot.bench.machine import list_gpus
    from ingot.bench.tune.cuda import cuda_bench
    from ingot.bench.tune.shapes import model_shapes
    from ingot.compile.cuda import cuda_compiler as find_compiler

    compile_source = find_compiler(cuda_compiler)
    shapes = model_shapes(model, quant, target)
    device = next(iter(list_gpus()), f"a GPU of {detect_cuda_arch()}")
    bench = cuda_bench(target, shapes, device, compile_source)
    if not bench.tunables:
        raise UsageError(
            f"the kernels of {shapes.name} have no sizes to search: those of float32 are fixed",
            "name a scheme of 16 or fewer bits with --quant",
        )
    return bench
