"""What a kernel costs, against figures worked out by hand."""

import pytest

from ingot.compile.kernels.costs import COSTS, Cost, cost_of
from ingot.compile.kernels.embedding import EmbeddingSpec
from ingot.compile.kernels.kv_write.spec import KvWriteSpec
from ingot.compile.kernels.matmul import LinearSpec
from ingot.compile.kernels.norm.spec import NormSpec
from ingot.compile.kernels.paged_attention.spec import PagedAttentionSpec
from ingot.compile.kernels.rope.spec import RopeSpec
from ingot.compile.schemes import FORMATS
from ingot.targets import resolve_target

ZEN4 = resolve_target("cpu:znver4")
AVX2 = resolve_target("cpu:x86-64-v3")


@pytest.mark.parametrize(
    ("target", "code", "arithmetic"),
    [(ZEN4, "q8_g32", "int8"), (AVX2, "q8_g32", "float32"), (AVX2, "q4_s128", "int8")],
)
def test_a_matmul_multiplies_in_what_the_target_has(target, code, arithmetic) -> None:  # type: ignore[no-untyped-def]
    cost = cost_of("matmul", LinearSpec(96, 64, FORMATS[code], "int8", False), target)
    assert (cost.arithmetic, cost.operations_per_row) == (arithmetic, 2 * 96 * 64)


def test_attention_reads_each_key_once_for_all_heads_that_share_it() -> None:
    spec = PagedAttentionSpec(14, 2, 64, 64, 0.125, window=100, kv_dtype="bfloat16")
    cost = cost_of("paged_attention", spec, ZEN4)
    assert cost.kv_per_context == 2 * 2 * (64 + 64)
    assert cost.operations_per_pair == 2 * 14 * (64 + 64)
    assert (cost.activations_per_row, cost.window) == (4 * 14 * (64 + 64), 100)
    assert cost.arithmetic == "bfloat16", "Zen 4 multiplies pairs of bfloat16"
    assert cost_of("paged_attention", spec, AVX2).arithmetic == "float32"


def test_an_embedding_reads_one_row_of_its_table() -> None:
    spec = EmbeddingSpec(1024, 64, FORMATS["q8_g32"], "int8")
    cost = cost_of("embedding", spec, ZEN4)
    assert cost.activations_per_row == 64 + 2 * 64 // 32 + 4 + 4 * 64
    assert not cost.reads_weights_whole


def test_slices_of_wide_rows_count_as_slices() -> None:
    assert cost_of("rope", RopeSpec(4, 32, 32, row_width=1000), ZEN4) == Cost(
        "4x32", 4 * 2 * (128 + 32), operations_per_row=3 * 128
    )
    assert cost_of("norm", NormSpec("rms", 64, 1e-6), ZEN4).activations_per_row == 4 * 2 * 64
    both = cost_of("norm", NormSpec("rms", 64, 1e-6, residual=True), ZEN4)
    assert both.activations_per_row == 4 * 4 * 64
    write = cost_of("kv_write", KvWriteSpec(2, 32, 16, "bfloat16"), ZEN4)
    assert (write.activations_per_row, write.kv_per_row) == (4 * 2 * 48, 2 * 2 * 48)


def test_what_has_no_row_is_told_by_its_tensors() -> None:
    assert "activation" not in COSTS
    assert cost_of("activation", object(), ZEN4) == Cost()
