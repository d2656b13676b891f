"""A lowered module to machine code: legalize, fuse, schedule, plan memory, generate, link."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import tvm
from tvm import relax, tirx
from tvm.support.cc import get_cc

from ingot.compile.cuda import Compile, KernelResources, compile_without_spills
from ingot.compile.cuda.device_code import Grid, captured
from ingot.compile.graph import GRAPH, bindings_of
from ingot.compile.trim import drop_checks, share_views
from ingot.errors import CompileError
from ingot.runtime.artifact.manifest import LAUNCHES_NAME, KernelRecord, cubin_name, ptx_name
from ingot.targets import Target

STEP = "step"
EMBED = "embed"


def host_triple(target: Target) -> str:
    """The CPU that `model.so` is for: the target, or beside a GPU a host like this one."""
    return target.llvm_triple or f"{platform.machine()}-linux-gnu"


def tvm_target(target: Target) -> tvm.target.Target:
    """TVM's description of a target. The code beside a GPU runs on any CPU of its architecture."""
    if target.kind == "cuda":
        return tvm.target.Target(
            {
                "kind": "cuda",
                "arch": target.cuda_arch,
                "max_threads_per_block": target.max_threads_per_block,
                "max_shared_memory_per_block": target.shared_memory_bytes,
                "thread_warp_size": 32,
            },
            host={"kind": "llvm", "mtriple": host_triple(target)},
        )
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


def derive_functions(module: tvm.IRModule) -> tvm.IRModule:
    """The graph to the artifact's three functions of a step, which share every kernel.

    Its results are the logits, the layers' outputs and the hidden states that the logits are made
    of: `step` gives the first, `trace` all but the last, `embed` the last alone.
    """
    graph = module[GRAPH]
    result = graph.body.body
    outputs = next(b.value for b in bindings_of(graph) if b.var.same_as(result))
    assert isinstance(outputs, relax.Tuple)
    fields = list(outputs.fields)
    derived = tvm.IRModule(dict(module.functions_items()), attrs=module.attrs)
    results = {STEP: fields[0], GRAPH: relax.Tuple(fields[:-1]), EMBED: fields[-1]}
    for name, value in results.items():
        derived[name] = _with_result(graph, name, value)
    return relax.transform.DeadCodeElimination(list(results))(derived)


def _with_result(function: relax.Function, name: str, value: relax.Expr) -> relax.Function:
    """`function` under another name, giving something else that it computes."""
    blocks = function.body.blocks
    if isinstance(value, relax.Tuple):
        result = relax.Var("result", relax.TupleType([field.ty for field in value.fields]))
        blocks = [*blocks, relax.BindingBlock([relax.VarBinding(result, value)])]
        value = result
    changed = relax.Function(
        function.params, relax.SeqExpr(blocks, value), value.ty, is_pure=True
    ).with_attr("global_symbol", name)
    return relax.utils.copy_with_new_vars(changed)


def plan(module: tvm.IRModule) -> tvm.IRModule:
    """Dataflow to calls of the virtual machine, with buffers that are reused."""
    return lower_to_calls(place_tensors(module))


def place_tensors(module: tvm.IRModule) -> tvm.IRModule:
    """Dataflow to kernels that write to views of storages, each reused when its tensor is dead."""
    return tvm.transform.Sequential(
        [
            relax.transform.ToNonDataflow(),
            relax.transform.RemovePurityChecking(),
            relax.transform.CallTIRRewrite(),
            relax.transform.StaticPlanBlockMemory(),
            relax.transform.LowerAllocTensor(),
            _module_pass(share_views),
        ]
    )(module)


def lower_to_calls(module: tvm.IRModule) -> tvm.IRModule:
    """Placed tensors to calls of the virtual machine."""
    return tvm.transform.Sequential(
        [
            relax.transform.LowerRuntimeBuiltin(),
            relax.transform.ComputePrimValue(),
            relax.transform.VMShapeLower(),
            _module_pass(_sort_shape_functions),
            _module_pass(drop_checks),
            relax.transform.AttachGlobalSymbol(),
        ]
    )(module)


def _module_pass(function: Callable[[tvm.IRModule], tvm.IRModule]) -> tvm.transform.Pass:
    return tvm.transform.module_pass(lambda module, _context: function(module), opt_level=0)


def _sort_shape_functions(module: tvm.IRModule) -> tvm.IRModule:
    """Put the stores of computed extents in order: TVM writes them as their addresses hash.

    Each stores to a place of its own and reads only what came with the arguments.
    """
    for variable, function in module.functions_items():
        is_shape = isinstance(function, tirx.PrimFunc) and "tirx.is_host_func" in function.attrs
        if is_shape and isinstance(function.body, tirx.SeqStmt):
            stores = sorted(function.body.seq, key=lambda store: int(store.indices[0]))
            module.update_func(variable, function.with_body(tirx.SeqStmt(stores)))
    return module


def generate(
    module: tvm.IRModule, target: Target, path: Path, compile_cuda: Compile | None = None
) -> tuple[KernelRecord, ...]:
    """Machine code as a shared library at `path`; needs the C compiler for the linking alone.

    For a GPU, `compile_cuda` makes a cubin for each architecture beside it; gives what the kernels
    take on each.
    """
    described = tvm_target(target)
    with tvm.transform.PassContext(opt_level=3), captured() as device, described:
        executable = relax.build(module, described, relax_pipeline=None)
    _link(executable, path, find_linker(target))
    if compile_cuda is None:
        assert not device.source, "device code in a build for a CPU"
        return ()
    records: list[KernelRecord] = []
    for arch in target.archs:
        binary = compile_without_spills(compile_cuda, device.source, arch)
        path.with_name(cubin_name(arch)).write_bytes(binary.cubin)
        records += [_describe(kernel, arch, device.grids[kernel.name]) for kernel in binary.kernels]
    path.with_name(ptx_name(arch)).write_bytes(binary.ptx)
    path.with_name(LAUNCHES_NAME).write_text(device.metadata(), encoding="utf-8")
    return tuple(records)


def _describe(kernel: KernelResources, arch: str, grid: Grid) -> KernelRecord:
    return KernelRecord(
        name=kernel.name,
        arch=arch,
        grid=grid.blocks,
        threads=grid.threads,
        registers=kernel.registers,
        shared_bytes=kernel.shared_bytes + grid.shared_bytes,
        spill_bytes=kernel.spill_bytes,
    )


def find_linker(target: Target) -> str:
    """The C compiler that links for `target`; raise now what would stop the last graph stage.

    For another architecture that is the one in CXX, else GNU's by its usual name.
    """
    architecture = host_triple(target).partition("-")[0]
    linker: str | None
    if architecture == platform.machine():
        linker = get_cc()
        install = "g++ or clang"
    else:
        name = f"{architecture}-linux-gnu-g++"
        linker = os.environ.get("CXX") or shutil.which(name)
        install = name
    if linker is None:
        raise CompileError(
            f"there is no C compiler for {architecture}, which links the machine code",
            f"install {install}, or name one in CXX; `ingot doctor` shows what this machine has",
        )
    return linker


def _link(executable: relax.VMExecutable, path: Path, linker: str) -> None:
    try:
        executable.export_library(str(path), cc=linker)
    except RuntimeError as error:  # TVM's "Compilation error:", then what the linker wrote
        lines = [line for line in str(error).splitlines() if line and "error:" not in line]
        reason = lines[0] if lines else str(error)
        raise CompileError(f"the machine code can't be linked: {reason}") from error
