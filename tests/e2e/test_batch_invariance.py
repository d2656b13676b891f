"""What a request gets does not depend on what else runs: in float32 not even in the last bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingot.compile.api import compile_model
from ingot.runtime.engine import Engine
from ingot.runtime.outputs import Completion
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampling_params import SamplingParams

NUM_REQUESTS = 32
STARTS = (
    "def fibonacci(n):",
    "import os\n\ndef walk(",
    "class Stack:\n    def push(self, item):",
    "for i in range(10):\n    ",
    "# sort a list of\n",
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "demo-f32"
    return compile_model("demo", quant="f32", out=out, prove=False).path


def make_requests() -> tuple[list[Any], list[SamplingParams]]:
    """Code and random tokens, of lengths around pages of 32; greedy and sampled."""
    random = np.random.default_rng(0)
    lengths = [1, 31, 32, 33, 63, 64, 65, 97, *random.integers(2, 90, NUM_REQUESTS)]
    texts: list[Any] = [random.integers(5, 2000, length).tolist() for length in lengths]
    prompts = [*STARTS, *texts][:NUM_REQUESTS]
    params = [
        SamplingParams(
            max_tokens=32, ignore_eos=True, temperature=0.9 * (i % 2), seed=i, logprobs=0
        )
        for i in range(NUM_REQUESTS)
    ]
    return prompts, params


def results(done: list[Completion]) -> list[tuple[tuple[int, ...], list[float]]]:
    return [(d.token_ids, [logprob.logprob for logprob in d.logprobs]) for d in done]


@pytest.fixture(scope="module")
def alone(demo: Path) -> list[tuple[tuple[int, ...], list[float]]]:
    with Engine(demo, num_pages=16, max_sequences=1) as engine:
        options = RequestOptions(prefix_cache=False)
        requests = zip(*make_requests(), strict=True)
        return results([engine.generate(p, q, options)[0] for p, q in requests])


@pytest.mark.parametrize("max_step_tokens", [40, 512])
def test_alone_and_among_others(demo: Path, alone: Any, max_step_tokens: int) -> None:
    with Engine(demo, num_pages=200, max_sequences=32, max_step_tokens=max_step_tokens) as engine:
        first = results(engine.generate(*make_requests()))
        assert engine.counters.num_prefix_hit_tokens == 0
        again = results(engine.generate(*make_requests()))
        assert engine.counters.num_prefix_hit_tokens > 0
    assert first == alone
    assert again == alone, "with pages of the first time"


def test_when_pages_run_out(demo: Path, alone: Any) -> None:
    with Engine(demo, num_pages=24, max_sequences=32) as engine:
        assert results(engine.generate(*make_requests())) == alone
        assert engine.counters.num_preemptions > 0
