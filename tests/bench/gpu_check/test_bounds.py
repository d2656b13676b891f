"""What was measured is set beside what is asked; what was not is left open."""

import io

import pytest
from rich.console import Console

from ingot.bench.gpu_check.bounds import DECODING_LABEL, PROMPT_LABEL, Bound, Results, bounds_of
from ingot.bench.gpu_check.cases import DECODING, PROMPT, attention_label
from ingot.bench.gpu_check.parts import Record
from ingot.bench.gpu_check.plan import FULL
from ingot.bench.gpu_check.table import render

LIMITS = {"copy_gb_s": 2000.0, "bf16_tflops": 600.0, "upload_gb_s": 45.0, "pinned_copy_gb_s": 50.0}
MODEL = {
    "weights_read_bytes": 15_000_000_000,
    "prefill": {"tokens_s": 12_000.0, "tflops": 300.0},
    "decode": {
        "1": {"tokens_s": 120.0, "step_us": 8_000.0, "gpu_us": 7_950.0, "beside_gpu_us": 50.0},
        "16": {"tokens_s": 1_600.0, "step_us": 10_000.0},
    },
    "memory": {"rest_bytes": 3e9, "rest_share": 0.15},
    "start": {"first_token_s": 7.0},
}
EAGER = {"decode": {"1": {"tokens_s": 30.0}, "16": {"tokens_s": 1_000.0}}}
KERNELS = {
    "calls": [{"name": "attention bfloat16", "label": PROMPT_LABEL, "tflops": 330.0, "gb_s": 1.0}]
}
FOUND = Results({"limits": LIMITS, "ingot 8b bf16": MODEL, "eager 8b": EAGER, "kernels": KERNELS})


@pytest.fixture(scope="module")
def bounds() -> dict[str, Bound]:
    return {bound.what: bound for bound in bounds_of(FOUND, FULL)}


@pytest.mark.parametrize(
    ("what", "reached", "met"),
    [
        ("a step at batch 1: of reading its weights at copy bandwidth", 0.9375, True),
        ("a step at batch 1: beside the GPU's own time", 50.0, True),
        ("prefill: of the matmul peak", 0.5, False),
        ("memory beside weights and KV", 0.15, False),
        ("process start to first token", 7.0, None),  # asked of int4
        ("decode at batch 1: of eager", 4.0, True),
        ("decode at batch 16: of eager", 1.6, False),
        ("decode at batch 64: of eager", None, None),
        ("decode at batch 1: of torch-compile", None, None),
    ],
)
def test_of_a_model(
    bounds: dict[str, Bound], what: str, reached: float | None, met: bool | None
) -> None:
    bound = bounds[f"8b bf16, {what}"]
    assert bound.reached == (None if reached is None else pytest.approx(reached))
    assert bound.met is met


def test_of_the_gpu(bounds: dict[str, Bound]) -> None:
    assert bounds[f"attention bfloat16, {PROMPT_LABEL}: of the matmul peak"].met
    assert bounds["weights in memory to the GPU: of pinned copies"].reached == pytest.approx(0.9)


def test_labels_are_those_of_the_cases() -> None:
    assert (attention_label(PROMPT), attention_label(DECODING)) == (PROMPT_LABEL, DECODING_LABEL)


def test_the_tables_show_what_was_measured(bounds: dict[str, Bound]) -> None:
    records = [
        Record("eager", ("1b",), left_out="no time was left"),
        Record("torch-compile", ("8b",), failed=["torch-compile: out of memory"]),
    ]
    console = Console(width=140, file=io.StringIO())
    console.print(render(FOUND, list(bounds.values()), records, FULL))
    text = console.file.getvalue()
    assert "eager 1b is left out: no time was left" in text
    assert "torch-compile 8b failed: torch-compile: out of memory" in text
    assert "1,600" in text and "3,000 MB" in text and "4.00 x" in text
    assert "0.5b" not in text and "figures more were not measured" in text
