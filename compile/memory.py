"""A planned function to one that takes the memory of its tensors, and one that lays them out there.

Planning gives the intermediate tensors of a step a handful of buffers in turn. Here these lie side
by side in one arena, which the caller has from `allocate`: `f(…, views)` allocates nothing, and
`f_views(dimensions, arena)` makes the views that it takes. They are the same for all steps of the
same dimensions. Runs after `LowerAllocTensor`, when each tensor is a view of a storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import tvm
from tvm import relax, tirx

from ingot.compile.graph import bindings_of, is_op
from ingot.compile.polynomial import Place, Polynomial, added, named_dimensions, polynomial_of
from ingot.runtime.artifact.manifest import ALLOCATE, VIEWS_SUFFIX
from ingot.runtime.artifact.weights_file import ALIGNMENT
from ingot.runtime.artifact.work import symbols_of

ALLOC_STORAGE, ALLOC_TENSOR = "relax.memory.alloc_storage", "relax.memory.alloc_tensor"
RESHAPE = "relax.reshape"


@dataclass(frozen=True, slots=True)
class PlannedMemory:
    """A module whose functions take their memory, and how many bytes each takes."""

    module: tvm.IRModule
    workspace: dict[str, Polynomial]


def give_memory(
    module: tvm.IRModule, dimensions: Mapping[str, Mapping[str, Place]]
) -> PlannedMemory:
    """Let functions take their memory: `dimensions` names the extents of each one's arguments.

    A function that allocates nothing stays as it is; not every module has all that are named.
    """
    planned = tvm.IRModule(dict(module.functions_items()), attrs=module.attrs)
    workspace: dict[str, Polynomial] = {}
    present = {variable.name_hint for variable in module.get_global_vars()}
    for name, places in dimensions.items():
        if name not in present:
            continue
        arena = _Arena(module[name], places)
        if arena.views:
            workspace[name] = arena.num_bytes
            planned[name] = arena.function_with_views()
            planned[name + VIEWS_SUFFIX] = arena.views_function(name + VIEWS_SUFFIX)
    if workspace:
        planned[ALLOCATE] = _allocate_function()
    return PlannedMemory(planned, workspace)


@dataclass(frozen=True, slots=True)
class _View:
    """A tensor in the arena."""

    var: relax.Var
    offset: Polynomial


class _Arena:
    """Where the tensors of one function lie: its storages one after the other."""

    def __init__(self, function: relax.Function, places: Mapping[str, Place]) -> None:
        self._function = function
        arrays = [p for p in function.params if isinstance(p.ty, relax.TensorType)]
        self._symbols = named_dimensions(arrays, places)
        self._kept: list[relax.VarBinding] = []
        self._offsets: dict[relax.Var, Polynomial] = {}  # of storages and views
        self.num_bytes: Polynomial = {}
        self.views: list[_View] = []
        for binding in bindings_of(function):
            self._add(binding)

    def _add(self, binding: relax.VarBinding) -> None:
        value = binding.value
        if is_op(value, ALLOC_STORAGE):
            self._offsets[binding.var] = self.num_bytes
            [size] = value.args[0].values
            self.num_bytes = added([self.num_bytes, _aligned(polynomial_of(size, self._symbols))])
        elif (is_op(value, ALLOC_TENSOR) or is_op(value, RESHAPE)) and (
            value.args[0] in self._offsets
        ):
            if is_op(value, ALLOC_TENSOR):
                assert int(value.args[1]) == 0, "planning gives a storage to one tensor at a time"
            self._offsets[binding.var] = self._offsets[value.args[0]]
            self.views.append(_View(binding.var, self._offsets[binding.var]))
        else:
            self._kept.append(binding)

    def function_with_views(self) -> relax.Function:
        function = self._function
        views = relax.Var("views", relax.TupleType([view.var.ty for view in self.views]))
        taken = [
            relax.VarBinding(view.var, relax.TupleGetItem(views, index))
            for index, view in enumerate(self.views)
        ]
        body = relax.SeqExpr([relax.BindingBlock([*taken, *self._kept])], function.body.body)
        changed = relax.Function(
            [*function.params, views], body, function.ret_ty, is_pure=function.is_pure
        )
        return changed.with_attrs(function.attrs)

    def views_function(self, name: str) -> relax.Function:
        """`(dimensions, arena) -> views`: of the dimensions those that the size depends on."""
        variables = {name: var for var, name in self._symbols.items()}
        names = symbols_of(self.num_bytes)
        dimensions = relax.Var("dimensions", relax.ShapeType([variables[name] for name in names]))
        arena = relax.Var("arena", relax.AnyType())
        bindings, results = [], []
        for view in self.views:
            offset = _expression(view.offset, variables)
            ty = view.var.ty
            call = relax.op.memory.alloc_tensor(arena, offset, ty.shape, str(ty.dtype))
            placed = relax.Var("placed", ty)
            bindings.append(relax.VarBinding(placed, call))
            results.append(relax.Var(view.var.name, ty))
            bindings.append(
                relax.VarBinding(results[-1], relax.op.memory.ensure_zero_offset(placed))
            )
        tuple_type = relax.TupleType([var.ty for var in results])
        result = relax.Var("views", tuple_type)
        bindings.append(relax.VarBinding(result, relax.Tuple(results)))
        body = relax.SeqExpr([relax.BindingBlock(bindings)], result)
        function = relax.Function([dimensions, arena], body, tuple_type, is_pure=True)
        attrs = {"global_symbol": name, "relax.force_pure": True}
        return relax.utils.copy_with_new_vars(function).with_attrs(attrs)


def _allocate_function() -> relax.Function:
    """`(shape [bytes]) -> arena`, on the device that tensors are on."""
    num_bytes = tirx.Var("num_bytes", "int64")
    shape = relax.Var("shape", relax.ShapeType([num_bytes]))
    arena = relax.Var("arena", relax.AnyType())
    call = relax.op.memory.alloc_storage(relax.ShapeExpr([num_bytes]), 0, "global", "uint8")
    body = relax.SeqExpr([relax.BindingBlock([relax.VarBinding(arena, call)])], arena)
    function = relax.Function([shape], body, relax.AnyType(), is_pure=True)
    return function.with_attrs({"global_symbol": ALLOCATE, "relax.force_pure": True})


def _aligned(num_bytes: Polynomial) -> Polynomial:
    """At least as much, and a multiple of the alignment whatever the dimensions are."""
    return {name: -(-c // ALIGNMENT) * ALIGNMENT for name, c in num_bytes.items()}


def _expression(polynomial: Polynomial, variables: Mapping[str, tirx.Var]) -> tirx.PrimExpr:
    total: tirx.PrimExpr = tirx.IntImm("int64", 0)
    for term, coefficient in polynomial.items():
        product: tirx.PrimExpr = tirx.IntImm("int64", coefficient)
        for factor in term.split("*"):
            product = product if factor == "1" else product * variables[factor]
        total = total + product
    return total
