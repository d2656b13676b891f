"""A planned step to the calls that the virtual machine must make every time.

A step is one straight line. Planning gives its intermediate tensors a handful of buffers in turn,
so most layers ask for the same views of the same buffers as the layer before, and the machine
checks the shape of every weight again each time. For small models both cost more than kernels.
"""

from __future__ import annotations

from collections.abc import Callable

import tvm
from tvm import relax
from tvm_ffi import StructuralKey

from ingot.compile.graph import bindings_of, is_op, operands_of

# Give the same value for the same arguments: a tensor over a buffer, another shape of a tensor.
VIEWS = ("relax.memory.alloc_tensor", "relax.reshape")

CHECKS = ("vm.builtin.match_shape", "vm.builtin.check_tensor_info")
STORE_TO_HEAP = 1
"""TVM's code for an extent that `match_shape` keeps rather than compares."""


def share_views(module: tvm.IRModule) -> tvm.IRModule:
    """Make each view of a planned buffer once, and take tuples apart that were only made for it."""
    return _map_functions(module, lambda function: _Sharing(function).run())


def drop_checks(module: tvm.IRModule) -> tvm.IRModule:
    """Leave out the checks of weights and pools: the runtime made them as the manifest says.

    The step's own inputs are still checked, and extents that a check brings are still kept.
    """
    return _map_functions(module, _drop_checks)


def _map_functions(
    module: tvm.IRModule, change: Callable[[relax.Function], relax.Function]
) -> tvm.IRModule:
    changed = tvm.IRModule(dict(module.functions_items()), attrs=module.attrs)
    for variable, function in module.functions_items():
        if isinstance(function, relax.Function):
            changed[variable] = change(function)
    return changed


class _Sharing:
    """One pass over a function: what each variable stands for, and which views exist."""

    def __init__(self, function: relax.Function) -> None:
        self._function = function
        self._same: dict[relax.Var, relax.Expr] = {}
        self._tuples: dict[relax.Var, relax.Tuple] = {}
        self._views: dict[StructuralKey, relax.Var] = {}

    def run(self) -> relax.Function:
        kept = []
        for binding in bindings_of(self._function):
            value = self._current(binding.value)
            if isinstance(value, relax.Var):
                self._same[binding.var] = value
            elif isinstance(value, relax.Tuple):
                self._tuples[binding.var] = value
            elif (known := self._known_view(binding.var, value)) is not None:
                self._same[binding.var] = known
            else:
                kept.append(relax.VarBinding(binding.var, value))
        result = self._function.body.body
        if result in self._tuples:
            kept.append(relax.VarBinding(result, self._tuples[result]))
        return _with_body(self._function, kept, self._same.get(result, result))

    def _known_view(self, var: relax.Var, value: relax.Expr) -> relax.Var | None:
        """The variable that already holds `value`, if it is a view; else `var` will."""
        if not any(is_op(value, name) for name in VIEWS):
            return None
        key = StructuralKey(value)
        if key in self._views:
            return self._views[key]
        self._views[key] = var
        return None

    def _current(self, expr: relax.Expr) -> relax.Expr:
        if isinstance(expr, relax.Var):
            expr = self._same.get(expr, expr)
            return self._tuples.get(expr, expr)
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self._current(field) for field in expr.fields])
        if isinstance(expr, relax.TupleGetItem):
            source = self._current(expr.tuple_value)
            if isinstance(source, relax.Tuple):
                return source.fields[expr.index]
            return relax.TupleGetItem(source, expr.index)
        if isinstance(expr, relax.Call):
            args = [self._current(arg) for arg in expr.args]
            return relax.Call(expr.op, args, expr.attrs, expr.ty_args)
        return expr


def _drop_checks(function: relax.Function) -> relax.Function:
    members = {
        binding.var
        for binding in bindings_of(function)
        if isinstance(binding.value, relax.TupleGetItem)
    }
    kept = [
        binding
        for binding in bindings_of(function)
        if not (_is_pure_check(binding.value) and binding.value.args[0] in members)
    ]
    used = {operand for binding in kept for operand in operands_of(binding.value)}
    used.add(function.body.body)
    kept = [binding for binding in kept if binding.var not in members or binding.var in used]
    return _with_body(function, kept, function.body.body)


def _is_pure_check(value: relax.Expr) -> bool:
    """Whether `value` compares a tensor with what is expected, and does nothing else."""
    if not (isinstance(value, relax.Call) and isinstance(value.op, relax.ExternFunc)):
        return False
    name = str(value.op.global_symbol)
    if name == "vm.builtin.match_shape":
        # (tensor, heap, number of extents, code, value, code, value, ..., message)
        return all(int(code.value) != STORE_TO_HEAP for code in value.args[3:-1:2])
    return name in CHECKS


def _with_body(
    function: relax.Function, bindings: list[relax.VarBinding], result: relax.Expr
) -> relax.Function:
    body = relax.SeqExpr([relax.BindingBlock(bindings)], result)
    changed = relax.Function(function.params, body, function.ret_ty, is_pure=function.is_pure)
    return changed.with_attrs(function.attrs) if function.attrs else changed
