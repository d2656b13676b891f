"""Adjust the logits of listed tokens in place: repetition, presence, frequency, then a bias.

x = logits[row, tokens[i]] for row_offsets[row] <= i < row_offsets[row + 1], each token once a row:
x / repetition where x > 0 else x * repetition, if seen[i]; minus presence if output_counts[i] > 0;
minus frequency * output_counts[i]; plus bias[i]. Reads and writes only what is listed.
"""

from __future__ import annotations

from tvm import tirx

from ingot.compile.kernels.sampling.spec import SamplingSpec
from ingot.compile.kernels.vector_ir import T, count, fma, index, kernel, let
from ingot.targets import Target


def build(spec: SamplingSpec, target: Target) -> tirx.PrimFunc:
    """(logits, row_offsets, tokens, output_counts, seen, bias, repetition, presence, frequency)."""
    m, m_plus_1, z = count("m"), count("m_plus_1"), count("z")
    zero = tirx.const(0.0, "float32")
    with kernel("penalize") as k:
        logits = k.argument("logits", (m, spec.vocab_size))
        row_offsets = k.argument("row_offsets", (m_plus_1,), "int32")
        tokens = k.argument("tokens", (z,), "int32")
        output_counts = k.argument("output_counts", (z,), "int32")
        seen = k.argument("seen", (z,), "int32")
        bias = k.argument("bias", (z,))
        repetition = k.argument("repetition", (m,))
        presence = k.argument("presence", (m,))
        frequency = k.argument("frequency", (m,))
        with T.serial(m) as row:
            first = let(index(row_offsets[row]), 1, "int64")
            with T.serial(index(row_offsets[row + 1]) - first) as i:
                at = let(first + i, 1, "int64")
                token = let(index(tokens[at]), 1, "int64")
                x = let(logits[row, token], 1)
                penalised = tirx.Select(x > zero, x / repetition[row], x * repetition[row])
                x = let(tirx.Select(seen[at] != 0, penalised, x), 1)
                x = let(x - tirx.Select(output_counts[at] > 0, presence[row], zero), 1)
                count_ = tirx.Cast("float32", output_counts[at])
                x = fma(zero - frequency[row], count_, x, 1)
                T.buffer_store(logits, x + bias[at], [row, token])
    return k.function
