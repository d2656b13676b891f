"""The peak of Intel's matrix tiles: micro-kernels in LLVM's own language, which has them.

A tile register holds 16 rows of 64 bytes. One instruction multiplies two of them and adds to a
third, 16 x 16 sums over 64 bytes or 32 pairs of bfloat16. Compiled and disassembled in the tests;
run only where the CPU has it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from ingot.compile.kernels.vector_ir import T, index, kernel
from ingot.targets import Target

SUMS = 6  # tile registers that are added to; the other two are multiplied
ROWS, ROW_BYTES, TILES = 16, 64, 8


@dataclass(frozen=True, slots=True)
class TileInstruction:
    kind: str
    mnemonic: str
    feature: str
    operations: int  # of one instruction


TILE_INSTRUCTIONS = (
    TileInstruction("int8", "tdpbssd", "amx_int8", 2 * ROWS * ROWS * ROW_BYTES),
    TileInstruction("bfloat16", "tdpbf16ps", "amx_bf16", 2 * ROWS * ROWS * ROW_BYTES // 2),
)


def tile_instructions(target: Target) -> tuple[TileInstruction, ...]:
    """Those that code for this target may use."""
    return tuple(i for i in TILE_INSTRUCTIONS if target.has(i.feature))


def tile_code(instruction: TileInstruction) -> str:
    """`i32 @ingot_<mnemonic>(i64 rounds)`: each round adds to every sum once."""
    name = instruction.mnemonic
    first, second = SUMS, SUMS + 1
    zeros = "\n".join(f"  call void @llvm.x86.tilezero(i8 {tile})" for tile in range(TILES))
    products = "\n".join(
        f"  call void @llvm.x86.{name}(i8 {total}, i8 {first}, i8 {second})"
        for total in range(SUMS)
    )
    config = [0] * 64
    config[0] = 1  # the only palette there is
    for tile in range(TILES):
        config[16 + 2 * tile] = ROW_BYTES
        config[48 + tile] = ROWS
    values = ", ".join(f"i8 {value}" for value in config)
    return f"""
@ingot_tile_config_{name} = internal constant [64 x i8] [{values}], align 64
declare void @llvm.x86.ldtilecfg(ptr)
declare void @llvm.x86.tilerelease()
declare void @llvm.x86.tilezero(i8 immarg)
declare void @llvm.x86.{name}(i8 immarg, i8 immarg, i8 immarg)
define linkonce_odr i32 @ingot_{name}(i64 %rounds) noinline {{
entry:
  call void @llvm.x86.ldtilecfg(ptr @ingot_tile_config_{name})
{zeros}
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{products}
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %rounds
  br i1 %more, label %loop, label %done
done:
  call void @llvm.x86.tilerelease()
  ret i32 1
}}
"""


def build_tile_peak(instruction: TileInstruction, threads: int, rounds: int) -> tirx.PrimFunc:
    """`(start [threads]) -> done [threads]`: each thread runs `rounds` rounds."""
    with kernel("tile_peak") as function:
        start = function.argument("start", (threads,), "int32")
        done = function.argument("done", (threads,), "int32")
        imported = T.attr(tirx.const(0), "pragma_import_llvm", tile_code(instruction))
        with imported, T.parallel(index(threads)) as thread:
            name = f"ingot_{instruction.mnemonic}"
            ran = tirx.call_extern("int32", name, index(rounds))
            T.buffer_store(done, start[thread] + ran, [thread])
    return function.function
