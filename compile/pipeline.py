"""A captured model to machine code and a table of weights: the graph stages, in order."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tvm
from tvm import relax

from ingot.compile.build import (
    EMBED,
    STEP,
    derive_functions,
    find_linker,
    generate,
    legalize,
    lower_to_calls,
    place_tensors,
)
from ingot.compile.cuda import Compile, cuda_compiler
from ingot.compile.graph import GRAPH, bindings_of
from ingot.compile.importer import ImportedModel, import_program
from ingot.compile.lowering import LoweredModel, Lowering
from ingot.compile.memory import give_memory
from ingot.compile.polynomial import Polynomial
from ingot.compile.report import Observer
from ingot.compile.rewrites import active_rewrites
from ingot.compile.rewrites.clean_up import clean_up
from ingot.compile.sampling_functions import LOGPROBS, ROW_DIMENSIONS, SAMPLE, add_sampling
from ingot.compile.schedule import schedule
from ingot.compile.step_inputs import STEP_DIMENSIONS
from ingot.compile.storage import FormatRules, WeightTable
from ingot.compile.work import describe_work
from ingot.models.capture import CapturedModel
from ingot.runtime.artifact.manifest import KernelRecord
from ingot.runtime.artifact.work import WorkRecord
from ingot.targets import Target

DIMENSIONS = {
    **dict.fromkeys((STEP, GRAPH, EMBED), STEP_DIMENSIONS),
    **dict.fromkeys((SAMPLE, LOGPROBS), ROW_DIMENSIONS),
}
"""The dimensions of each function whose tensors lie in the runtime's workspace."""


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """What the graph stages need to know beside the model."""

    target: Target
    formats: FormatRules
    disabled: frozenset[str] = frozenset()
    cuda_compiler: str = "nvrtc"


@dataclass(frozen=True, slots=True)
class CompiledGraph:
    """What is known of the code that was written, for the weights files and the manifest."""

    weights: WeightTable
    """The tensors that the code takes as arguments; they are still to be read and stored."""
    kernels: tuple[KernelRecord, ...]
    """Registers, shared memory and spills of each kernel on a GPU; empty for a CPU."""
    work: tuple[WorkRecord, ...]
    """What each kernel of a step moves and computes."""
    workspace: dict[str, Polynomial]
    """The bytes that each function takes for its tensors."""


def compile_graph(
    captured: CapturedModel, options: GraphOptions, code: Path, observer: Observer
) -> CompiledGraph:
    """Write the model's code to `code`, for a GPU its device code beside it."""
    compile_cuda = find_tools(options)
    with observer.stage("import"):
        imported = import_program(captured)
        observer.dump(imported.module, "import")
    with observer.stage("rewrite"):
        module = rewrite(imported, options, observer)
    with observer.stage("lower"):
        lowered = lower(module, imported, captured, options)
        observer.dump(lowered.module, "lower")
        observer.report.leftover_operators = count_core_operators(lowered.module)
    with observer.stage("legalize"):
        module = legalize(lowered.module)
        observer.dump(module, "legalize")
    with observer.stage("schedule"):
        module = schedule(derive_functions(module), options.target)
        names = [tensor.name for weight in lowered.weights for tensor in weight.tensors]
        work = describe_work(module, names)
        module = add_sampling(module, captured.vocab_size, options.target)
        observer.dump(module, "schedule")
    with observer.stage("plan"):
        memory = give_memory(place_tensors(module), DIMENSIONS)
        module = lower_to_calls(memory.module)
        observer.dump(module, "plan")
    with observer.stage("generate"):
        kernels = generate(module, options.target, code, compile_cuda)
        observer.report.spilling = [k.name for k in kernels if k.spill_bytes]
    return CompiledGraph(lowered.weights, kernels, work, memory.workspace)


def count_calls(captured: CapturedModel, options: GraphOptions) -> Counter[Any]:
    """How often a step would call the kernel of each spec; no kernel becomes machine code."""
    imported = import_program(captured)
    module = rewrite(imported, options, Observer(None, None))
    return lower(module, imported, captured, options).calls


def find_tools(options: GraphOptions) -> Compile | None:
    """The compiler for a GPU's code. Raises an `IngotError` if it or the linker is missing."""
    find_linker(options.target)
    return cuda_compiler(options.cuda_compiler) if options.target.kind == "cuda" else None


def rewrite(imported: ImportedModel, options: GraphOptions, observer: Observer) -> tvm.IRModule:
    """Run every rewrite that is for the target and not turned off."""
    names = imported.checkpoint_names

    def format_of(weights: list[relax.Var], role: str) -> str:
        return options.formats.format_of([names[weight.name] for weight in weights], role).code

    module = imported.module
    for step in active_rewrites(options.disabled, options.target.kind):
        started = time.perf_counter()
        rewritten = step.apply(module, format_of)
        module = rewritten.module
        observer.rewritten(step.name, time.perf_counter() - started, rewritten.num_matched)
        observer.dump(module, step.name)
    return module


def lower(
    module: tvm.IRModule, imported: ImportedModel, captured: CapturedModel, options: GraphOptions
) -> LoweredModel:
    """Operators to kernels; the shape operators that this adds are cleaned up again."""
    lowered = Lowering(
        module,
        checkpoint_names=imported.checkpoint_names,
        kv_slots=captured.kv_slots,
        target=options.target,
        formats=options.formats,
    ).run()
    return replace(lowered, module=clean_up(lowered.module).module)


def count_core_operators(module: tvm.IRModule) -> dict[str, int]:
    """How often each core operator that will cost a kernel of its own is left."""
    free = {"relax.call_tir", "relax.call_tir_inplace", "relax.reshape", "relax.astype"}
    names = Counter(
        binding.value.op.name
        for binding in bindings_of(module[GRAPH])
        if isinstance(binding.value, relax.Call) and isinstance(binding.value.op, tvm.ir.Op)
    )
    return {name: count for name, count in sorted(names.items()) if name not in free}
