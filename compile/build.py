"""A lowered module to machine code: legalize, fuse, schedule, plan memory, generate, link."""

from __future__ import annotations

from pathlib import Path

import tvm
from tvm import relax

from ingot.compile.graph import GRAPH, bindings_of
from ingot.errors import CompileError
from ingot.targets import Target

STEP = "step"


def tvm_target(target: Target) -> tvm.target.Target:
    """TVM's description of a CPU target."""
    return tvm.target.Target(
        {"kind": "llvm", "mtriple": target.llvm_triple, "mcpu": target.llvm_cpu}
    )


def legalize(module: tvm.IRModule) -> tvm.IRModule:
    """Core operators to TIR, and chains of them to one function each.

    A reshape stays what it is, since it moves nothing: a view of the same buffer.
    """
    return tvm.transform.Sequential(
        [
            relax.transform.LegalizeOps({"relax.reshape": lambda _builder, call: call}),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FoldConstant(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            relax.transform.DeadCodeElimination([GRAPH]),
        ]
    )(module)


def derive_step(module: tvm.IRModule) -> tvm.IRModule:
    """Add `step`, which is `trace` without the layers' outputs and shares every kernel with it."""
    trace = module[GRAPH]
    result = trace.body.body
    outputs = next(b.value for b in bindings_of(trace) if b.var.same_as(result))
    assert isinstance(outputs, relax.Tuple)
    body = relax.SeqExpr(trace.body.blocks, outputs.fields[0])
    step = relax.Function(trace.params, body, outputs.fields[0].ty, is_pure=True)
    step = step.with_attr("global_symbol", STEP)
    derived = tvm.IRModule(dict(module.functions_items()), attrs=module.attrs)
    derived[STEP] = relax.utils.copy_with_new_vars(step)
    return relax.transform.DeadCodeElimination([GRAPH, STEP])(derived)


def plan(module: tvm.IRModule) -> tvm.IRModule:
    """Dataflow to calls of the virtual machine, with buffers that are reused."""
    return tvm.transform.Sequential(
        [
            relax.transform.ToNonDataflow(),
            relax.transform.RemovePurityChecking(),
            relax.transform.CallTIRRewrite(),
            relax.transform.StaticPlanBlockMemory(),
            relax.transform.LowerAllocTensor(),
            relax.transform.KillAfterLastUse(),
            relax.transform.LowerRuntimeBuiltin(),
            relax.transform.ComputePrimValue(),
            relax.transform.VMShapeLower(),
            relax.transform.AttachGlobalSymbol(),
        ]
    )(module)


def generate(module: tvm.IRModule, target: Target, path: Path) -> None:
    """Machine code as a shared library at `path`; needs the C compiler for the linking alone."""
    with tvm.transform.PassContext(opt_level=3):
        executable = relax.build(module, tvm_target(target), relax_pipeline=None)
    try:
        executable.export_library(str(path))
    except RuntimeError as error:  # TVM's "Compilation error:", then what the linker wrote
        lines = [line for line in str(error).splitlines() if line and "error:" not in line]
        reason = lines[0] if lines else str(error)
        raise CompileError(f"the machine code can't be linked: {reason}") from error
