"""Products of bfloat16 pairs added to float32 lanes: AVX512-BF16 and Arm's bfdot.

bfloat16 goes as its bits. TVM widens its own bfloat16 type to float32 before LLVM sees it, so the
instructions come as LLVM functions over integers, which LLVM inlines. They take denormal numbers as
zero, which lie 2^-126 and less from it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from tvm import tirx
from tvm.ir import StringImm

from ingot.compile.kernels.vector_ir import Expr, T, narrow
from ingot.targets import Target

_DOT, _ROUND = "ingot_bfloat16_dot", "ingot_bfloat16_round"
_DOT_INTRINSICS = {
    16: "llvm.x86.avx512bf16.dpbf16ps.512",
    4: "llvm.aarch64.neon.bfdot.v4f32.v8bf16",
}
_DOT_FUNCTION = """
declare <{n} x float> @{intrinsic}(<{n} x float>, <{m} x bfloat>, <{m} x bfloat>)
define linkonce_odr <{n} x float> @{name}(<{n} x float> %sum, <{m} x i16> %a, <{m} x i16> %b)
    alwaysinline nounwind {{
  %x = bitcast <{m} x i16> %a to <{m} x bfloat>
  %y = bitcast <{m} x i16> %b to <{m} x bfloat>
  %dot = call <{n} x float> @{intrinsic}(<{n} x float> %sum, <{m} x bfloat> %x, <{m} x bfloat> %y)
  ret <{n} x float> %dot
}}
"""
_ROUND_FUNCTION = f"""
declare <16 x bfloat> @llvm.x86.avx512bf16.cvtneps2bf16.512(<16 x float>)
define linkonce_odr <16 x i16> @{_ROUND}(<16 x float> %x) alwaysinline nounwind {{
  %rounded = call <16 x bfloat> @llvm.x86.avx512bf16.cvtneps2bf16.512(<16 x float> %x)
  %bits = bitcast <16 x bfloat> %rounded to <16 x i16>
  ret <16 x i16> %bits
}}
"""


def bfloat16_functions(target: Target) -> AbstractContextManager[None]:
    """A context for some of a kernel's code, after which all of the kernel may call the functions
    below: their LLVM code comes with it."""
    lanes = target.float32_lanes
    functions = _DOT_FUNCTION.format(
        n=lanes, m=2 * lanes, intrinsic=_DOT_INTRINSICS[lanes], name=_DOT
    )
    if lanes == 16:
        functions += _ROUND_FUNCTION
    attribute: AbstractContextManager[None] = T.attr(
        tirx.const(0, "int32"), "pragma_import_llvm", StringImm(functions)
    )
    return attribute


def dot_pairs(total: Expr, a: Expr, b: Expr, lanes: int) -> Expr:
    """float32 lanes plus, in each, the two products of a pair; a and b are twice as many uint16."""
    return tirx.call_pure_extern(f"float32x{lanes}", _DOT, total, a, b)


def round_to_bfloat16(x: Expr, lanes: int) -> Expr:
    """float32 lanes to uint16 lanes, to the nearest, ties to even."""
    if lanes == 16:
        return tirx.call_pure_extern("uint16x16", _ROUND, x)
    return narrow(x, "bfloat16", lanes)
