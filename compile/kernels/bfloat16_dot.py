"""The products of bfloat16 pairs that AVX512-BF16 adds to float32 lanes, with bfloat16 as its bits.

TVM widens its bfloat16 type to float32 before LLVM sees it, so the two instructions come as LLVM
functions over integers, which are always inlined. Both treat denormals as zero.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from tvm import tirx
from tvm.ir import StringImm

from ingot.compile.kernels.vector_ir import Expr, T
from ingot.targets import Target

LANES = 16
_DOT, _ROUND = "ingot_bfloat16_dot", "ingot_bfloat16_round"
_FUNCTIONS = f"""
declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>, <32 x bfloat>, <32 x bfloat>)
declare <16 x bfloat> @llvm.x86.avx512bf16.cvtneps2bf16.512(<16 x float>)

define linkonce_odr <16 x float> @{_DOT}(<16 x float> %sum, <32 x i16> %a, <32 x i16> %b)
    alwaysinline nounwind {{
  %x = bitcast <32 x i16> %a to <32 x bfloat>
  %y = bitcast <32 x i16> %b to <32 x bfloat>
  %dot = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(
      <16 x float> %sum, <32 x bfloat> %x, <32 x bfloat> %y)
  ret <16 x float> %dot
}}

define linkonce_odr <16 x i16> @{_ROUND}(<16 x float> %x) alwaysinline nounwind {{
  %rounded = call <16 x bfloat> @llvm.x86.avx512bf16.cvtneps2bf16.512(<16 x float> %x)
  %bits = bitcast <16 x bfloat> %rounded to <16 x i16>
  ret <16 x i16> %bits
}}
"""


def has_bfloat16_dot(target: Target) -> bool:
    return target.vector_bytes == 4 * LANES and target.has("avx512_bf16")


def bfloat16_functions() -> AbstractContextManager[None]:
    """The kernel's code between `with` may use this file's instructions."""
    attribute: AbstractContextManager[None] = T.attr(
        tirx.const(0, "int32"), "pragma_import_llvm", StringImm(_FUNCTIONS)
    )
    return attribute


def dot_pairs(total: Expr, a: Expr, b: Expr) -> Expr:
    """float32x16 plus, in each lane, the two products of a pair; a and b are uint16x32."""
    return tirx.call_pure_extern(f"float32x{LANES}", _DOT, total, a, b)


def round_to_bfloat16(x: Expr) -> Expr:
    """float32x16 to uint16x16, to the nearest, ties to even."""
    return tirx.call_pure_extern(f"uint16x{LANES}", _ROUND, x)
