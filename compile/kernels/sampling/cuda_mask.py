"""Make tokens that may not come impossible, in place: a bit a token, for the rows that have a mask.

logits: [m, vocab_size]; mask_rows: [m], the place of a row's mask, -1 for none; bits: [z, words],
bit i % 32 of word i // 32 is 1 where token i may come. Each thread loads the words of all its
tokens before it looks at the first. A row without a mask costs its blocks one load.
"""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.cuda_ir import LOWEST, launch, let
from ingot.compile.kernels.sampling.cuda_block import PER_THREAD, SPLIT, THREADS, num_splits
from ingot.compile.kernels.sampling.spec import WORD_BITS, SamplingSpec
from ingot.compile.kernels.vector_ir import T, count, index, kernel, otherwise_if
from ingot.targets import Target


def build_mask(spec: SamplingSpec, target: Target) -> tirx.PrimFunc:
    """(logits, mask_rows, bits) -> nothing; changes the logits."""
    m, z, size = count("m"), count("z"), spec.vocab_size
    all_may_come = tirx.const(-1, "int32")
    with kernel("mask") as k:
        logits = k.argument("logits", (m, size))
        mask_rows = k.argument("mask_rows", (m,), "int32")
        bits = k.argument("bits", (z, spec.num_words), "int32")
        with launch(index(num_splits(size)), THREADS, m) as (split, row, thread):
            mask = let(index(mask_rows[row]), "int64")
            with otherwise_if(mask >= 0):
                words = []
                for part in range(PER_THREAD):
                    i = let(split * SPLIT + part * THREADS + thread, "int64")
                    word = bits[mask, tirx.floordiv(i, WORD_BITS)]
                    words.append((i, let(tirx.if_then_else(i < size, word, all_may_come), "int32")))
                for i, word in words:
                    bit = (word >> tirx.Cast("int32", tirx.floormod(i, WORD_BITS))) & 1
                    with otherwise_if(bit == 0):
                        T.buffer_store(logits, tirx.const(LOWEST, "float32"), [row, i])
    return k.function
