"""Schedule what has no kernel of ours: inline elementwise producers, spread rows, vectorise.

Functions that fusion made of core operators are loops in order; on a CPU each gets its outer
spatial loops over the cores and its innermost one in vectors, on a GPU a thread an element.
Hand-scheduled kernels are left alone.
"""

from __future__ import annotations

import tvm
from tvm import s_tir, tirx

from ingot.compile.build import tvm_target
from ingot.compile.fast_inspect import fast_inspect
from ingot.targets import Target

_SPATIAL = 0  # tirx.IterVar.DataPar


def schedule(module: tvm.IRModule, target: Target) -> tvm.IRModule:
    """Schedule every `PrimFunc` that is not marked as scheduled, as its kind of target wants it."""
    schedulers = {"cpu": schedule_for_cpu, "cuda": schedule_for_cuda}
    return schedulers[target.kind](module, target)


def schedule_for_cuda(module: tvm.IRModule, target: Target) -> tvm.IRModule:
    """One thread for each element of an output, by TVM's last-resort rule for GPUs."""
    with fast_inspect():  # the rules parse TIR as they are imported
        from tvm.s_tir import dlight

    with tvm_target(target):
        return dlight.ApplyDefaultSchedule(dlight.gpu.Fallback())(module)


def schedule_for_cpu(module: tvm.IRModule, target: Target) -> tvm.IRModule:
    """Rows spread over the cores, and vectors along them where whole ones fit."""
    scheduled = tvm.IRModule(dict(module.functions_items()), attrs=module.attrs)
    for variable, function in module.functions_items():
        if isinstance(function, tirx.PrimFunc) and "tirx.is_scheduled" not in function.attrs:
            scheduled[variable] = _schedule(function, target)
    return scheduled


def _schedule(function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc:
    schedule = s_tir.Schedule(tvm.IRModule({"main": function}))
    root = schedule.get_sblock("root")
    for block in schedule.get_child_blocks(root):
        if _is_inlinable(schedule, block):
            schedule.compute_inline(block)
    for block in schedule.get_child_blocks(root):
        _spread(schedule, block, target)
    result = schedule.mod["main"].with_attr("tirx.is_scheduled", True)
    return result.without_attr("global_symbol") if "global_symbol" in result.attrs else result


def _iterators(schedule: s_tir.Schedule, block: s_tir.schedule.SBlockRV) -> list[tirx.IterVar]:
    return list(schedule.get(block).iter_vars)


def _is_inlinable(schedule: s_tir.Schedule, block: s_tir.schedule.SBlockRV) -> bool:
    if any(v.iter_type != _SPATIAL for v in _iterators(schedule, block)):
        return False
    if not schedule.get_consumers(block):
        return False
    try:
        schedule.copy().compute_inline(block)
    except s_tir.ScheduleError:
        return False
    return True


def _spread(schedule: s_tir.Schedule, block: s_tir.schedule.SBlockRV, target: Target) -> None:
    """Outer spatial loops over the cores; the innermost in vectors where whole ones fill it."""
    iterators, loops = _iterators(schedule, block), schedule.get_loops(block)
    if len(iterators) != len(loops) or not loops:
        return
    kinds = [v.iter_type for v in iterators]
    num_spatial = next((i for i, kind in enumerate(kinds) if kind != _SPATIAL), len(kinds))
    if any(kind == _SPATIAL for kind in kinds[num_spatial:]) or num_spatial == 0:
        return
    outer = loops[:num_spatial]
    if num_spatial == len(loops):
        extent = schedule.get(loops[-1]).extent
        lanes = target.float32_lanes
        if isinstance(extent, tirx.IntImm) and int(extent) >= lanes and int(extent) % lanes == 0:
            outer = loops[:-1]
            _, vector = schedule.split(loops[-1], [None, lanes])
            schedule.vectorize(vector)
    if outer:
        schedule.parallel(schedule.fuse(*outer) if len(outer) > 1 else outer[0])
