"""The linear layer on a GPU: out[n, N] = x[n, K] @ weight.T + bias, for each range of n a kernel.

Tensor cores multiply everything but float32 weights: x is rounded to 16 bits, products and sums are
exact and float32. By 8-bit floats, x is rounded to 8 bits where tensor cores multiply them as they
are (`cuda_float8.py`). The kernels add in different orders: the same row may differ in its last
bits between them, and not within one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tvm import tirx

from ingot.compile.kernels.cuda_ir import choose
from ingot.compile.kernels.matmul.cuda_epilogue import Epilogue
from ingot.compile.kernels.matmul.cuda_few_rows import FewRows, multiply_few_rows
from ingot.compile.kernels.matmul.cuda_float8 import (
    Float8FewRows,
    multiply_float8_by_warpgroups,
    multiply_many_float8_rows,
)
from ingot.compile.kernels.matmul.cuda_inputs import Inputs, Norm, sum_squares
from ingot.compile.kernels.matmul.cuda_many_rows import multiply_many_rows
from ingot.compile.kernels.matmul.cuda_plain import multiply_plain
from ingot.compile.kernels.matmul.cuda_tiling import FewRowsTiling
from ingot.compile.kernels.matmul.cuda_warpgroup import multiply_by_warpgroups
from ingot.compile.kernels.matmul.cuda_weights import Weights
from ingot.compile.kernels.matmul.element import element
from ingot.compile.kernels.matmul.spec import SQUARES_RUN, LinearSpec, layout, packed_tensors
from ingot.compile.kernels.tensor_core import COLUMNS
from ingot.compile.kernels.vector_ir import Expr, T, count, index, kernel, otherwise_if
from ingot.targets import Target, TargetError

MOST_FEW_ROWS = 64  # where nothing was measured
MANY_ROWS = {
    ("mma", False): multiply_many_rows,
    ("wgmma", False): multiply_by_warpgroups,
    ("mma", True): multiply_many_float8_rows,
    ("wgmma", True): multiply_float8_by_warpgroups,
}
"""The kernels for more rows than those for few take, by the instruction that they multiply with
and whether it multiplies 8-bit floats."""


def build(spec: LinearSpec, target: Target) -> tirx.PrimFunc:
    """The kernel `(x, (squares, norm_weight), *packed, (bias), (residual), out, (out_squares))`;
    the number of rows n is symbolic, 0 included."""
    n, cut = count("n"), layout(spec, target)
    gate = f"_{spec.gate}" if spec.gate else ""
    around = f"{'_norm' if spec.norm_eps else ''}{'_add' if spec.adds else ''}"
    with kernel(f"linear_{spec.format.code}{gate}{around}") as k:
        x = k.argument("x", (n, spec.in_features))
        inputs = Inputs(x, n)
        if spec.norm_eps:
            runs = -(-spec.in_features // SQUARES_RUN)
            squares = k.argument("squares", (n, runs))
            norm = Norm(squares, k.argument("norm_weight", (spec.in_features,)), spec.norm_eps)
            inputs = Inputs(x, n, norm)
        packed = [
            k.argument(tensor.suffix, tensor.shape, tensor.dtype)
            for tensor in packed_tensors(spec, target)
        ]
        bias = k.argument("bias", (spec.out_features,)) if spec.has_bias else None
        residual = k.argument("residual", (n, spec.width)) if spec.adds else None
        out = k.argument("out", (n, spec.width))
        sums = k.argument("out_squares", (n, spec.num_squares)) if spec.adds else None
        if not cut.tensor:

            def weight(column: Expr, i: Expr) -> Expr:
                return element(spec.format, cut, packed, column, index(0), i)

            def write(row: Expr, column: Expr, value: Expr) -> None:
                T.buffer_store(out, value if bias is None else value + bias[column], [row, column])

            assert not (spec.gate or spec.adds or spec.norm_eps), spec
            multiply_plain(spec, n, x, weight, write)
        else:
            epilogue = Epilogue(Weights.of(spec, target, packed), n, bias, out, residual, sums)
            is_float8 = epilogue.weights.dtype == "float8"
            few_rows = Float8FewRows if is_float8 else FewRows
            enough = enough_blocks(target)
            choices: list[tuple[int, Callable[[], None]]] = [
                (
                    tiling.row_tiles * COLUMNS,
                    lambda tiling=tiling: multiply_few_rows(  # type: ignore[misc]
                        few_rows, tiling, enough, inputs, epilogue
                    ),
                )
                for tiling in few_rows_tilings(target)
            ]

            def multiply_many() -> None:
                multiply = MANY_ROWS[target.matmul_many_rows, is_float8]
                multiply(target, inputs.with_scales(), replace(epilogue, squares=None))
                if sums is not None:
                    sum_squares(n, out, sums)

            with otherwise_if(n > 0):
                choose(n, choices, multiply_many)
    return k.function


def few_rows_tilings(target: Target) -> tuple[FewRowsTiling, ...]:
    """The kernels for few rows, for the fewest first: as measured, else as the target's table has
    them."""
    most_tiles = target.size("matmul_most_few_rows", MOST_FEW_ROWS) // COLUMNS
    found: list[FewRowsTiling] = []
    for row_tiles, *guess in target.matmul_few_rows:
        if not found or found[-1].row_tiles < most_tiles:
            sizes = target.sizes(few_rows_parameter(row_tiles), tuple(guess))
            found.append(FewRowsTiling(min(row_tiles, most_tiles), *sizes))
    for tiling in found:
        if tiling.shared_bytes > target.shared_memory_bytes:
            raise TargetError(
                f"a matmul of few rows can't have {tiling.stages} stages of weights for "
                f"{tiling.threads} threads: they take {tiling.shared_bytes} bytes of shared memory "
                f"with the inputs, and a block of {target.name} has {target.shared_memory_bytes}"
            )
    return tuple(found)


def enough_blocks(target: Target) -> int:
    """Where nothing was measured, inputs are shared by several blocks if tiles of features leave
    more than a quarter of the multiprocessors without one."""
    return target.size("matmul_enough_blocks", target.multiprocessors * 3 // 2)


def few_rows_parameter(row_tiles: int) -> str:
    """What the sizes of a row of the target's table are called where they were measured."""
    return f"matmul_{row_tiles * COLUMNS}_rows"
