"""Embeddings on the fake device: the vectors are the model's own, among streams, cuts and pages
that are shared or taken."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ingot.errors import RequestError
from ingot.runtime.request_options import PoolingKind, RequestOptions
from ingot.runtime.sampling_params import SamplingParams
from tests.runtime.conftest import TOY, Rig
from tests.tolerances import assert_close

MakeRig = Callable[..., Rig]
PROMPTS = [[3, 1, 4], [1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7], [2], [7] * 30]


def expected(prompt: list[int], pooling: PoolingKind) -> np.ndarray:
    rows = [TOY.toy_logits(prompt[: i + 1]) for i in range(len(prompt))]
    return np.asarray(rows[-1] if pooling == "last" else np.mean(rows, axis=0), np.float32)


def check(got: np.ndarray, prompts: list[list[int]], pooling: PoolingKind) -> None:
    for vector, prompt in zip(got, prompts, strict=True):
        assert_close(vector, expected(prompt, pooling), "elementwise")


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("budget", [4, 7, 512])
def test_lengths_and_budgets(make_rig: MakeRig, pooling: PoolingKind, budget: int) -> None:
    rig = make_rig(max_sequences=4, max_step_tokens=budget)
    check(rig.engine.embed(PROMPTS, pooling=pooling, normalize=False), PROMPTS, pooling)
    assert all(len(step.token_ids) <= budget for step in rig.executor.steps)
    assert rig.engine.stats().num_used_pages == 0
    assert rig.engine.counters.num_output_tokens == 0


def test_texts_norms_and_dimensions(make_rig: MakeRig) -> None:
    engine = make_rig().engine
    vectors = engine.embed("w3 w1 w4", dimensions=5)
    assert vectors.shape == (1, 5) and vectors.dtype == np.float32
    wanted = expected([3, 1, 4], "last")[:5]
    assert_close(vectors[0], wanted / np.linalg.norm(wanted), "elementwise")
    assert engine.embed([]).shape[0] == 0


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_prompt_in_the_cache(make_rig: MakeRig, pooling: PoolingKind) -> None:
    """The mean needs every token once more, the last token only itself."""
    rig = make_rig()
    prompt = list(range(1, 18))
    rig.engine.generate([prompt], SamplingParams(max_tokens=1))
    rig.executor.steps.clear()
    check(rig.engine.embed(prompt, pooling=pooling, normalize=False), [prompt], pooling)
    num_read = sum(len(step.token_ids) for step in rig.executor.steps)
    assert num_read == (17 if pooling == "mean" else 1)


def test_its_pages_serve_later_prompts(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.engine.embed(list(range(1, 18)))
    (completion,) = rig.engine.generate([list(range(1, 18))], SamplingParams(max_tokens=1))
    assert completion.stats.num_prefix_hit_tokens == 16


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_among_streams_that_take_its_pages(make_rig: MakeRig, pooling: PoolingKind) -> None:
    """Texts stay what they are alone, and a preempted prompt's vector too."""
    params = SamplingParams(max_tokens=12, ignore_eos=True)
    urgent = RequestOptions(priority=1)
    alone = [make_rig().engine.generate([[k]], params)[0].token_ids for k in (1, 2, 3)]
    rig = make_rig(num_pages=10, max_sequences=4, max_step_tokens=6)
    rest = [rig.engine.add_request([1], params)]
    embedded = rig.engine.add_request(PROMPTS[3], None, RequestOptions(pooling=pooling))
    chunks: list[Any] = []
    for _ in range(3):
        chunks += rig.engine.step()
        rig.core.check_integrity()
    rest += [rig.engine.add_request([k], params, urgent) for k in (2, 3)]
    while rig.engine.has_work:
        chunks += rig.engine.step()
        rig.core.check_integrity()
    texts = [[t for c in chunks if c.request_id == key for t in c.token_ids] for key in rest]
    assert texts == [list(tokens) for tokens in alone]
    (last,) = [chunk for chunk in chunks if chunk.request_id == embedded]
    assert last.is_last and last.finish_reason == "stop" and last.token_ids == ()
    assert last.stats.num_preemptions > 0
    check([last.embedding], [PROMPTS[3]], pooling)


@pytest.mark.parametrize("speculation", ["prompt-lookup", None])
def test_with_guesses(make_rig: MakeRig, speculation: str | None) -> None:
    rig = make_rig(speculation=speculation, max_step_tokens=64)
    params = SamplingParams(max_tokens=20, ignore_eos=True)
    alone = make_rig().engine.generate([[5, 5, 5, 5]], params)[0].token_ids
    key = rig.engine.add_request([5, 5, 5, 5], params)
    tokens: list[int] = []
    while rig.engine.has_work:
        rig.engine.add_request([4], None, RequestOptions(pooling="last"))
        chunks = rig.engine.step()
        tokens += [t for c in chunks if c.request_id == key for t in c.token_ids]
        if any(c.request_id == key and c.is_last for c in chunks):
            break
    while rig.engine.has_work:
        rig.engine.step()
    assert tuple(tokens) == alone


def test_a_whole_context_has_room(make_rig: MakeRig) -> None:
    """No answer follows, so the prompt may fill the cache to its last place."""
    engine = make_rig(num_pages=4).engine
    prompt = [1 + i % 60 for i in range(16)]
    check(engine.embed(prompt, normalize=False), [prompt], "last")
    with pytest.raises(RequestError, match="KV cache holds 16, the answer's included"):
        engine.generate([prompt])
    with pytest.raises(RequestError, match="the prompt has 17 tokens; the KV cache holds 16\n"):
        engine.embed([*prompt, 1])


def test_refusals(make_rig: MakeRig) -> None:
    engine = make_rig().engine
    with pytest.raises(RequestError, match="pooling is 'max'; it is one of mean, last"):
        engine.embed("w1", pooling="max")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="the prompt is empty"):
        engine.embed("")
    with pytest.raises(RequestError, match="ended before its embedding was there.*timeout"):
        engine.embed([1] * 9, options=RequestOptions(timeout_s=0.5))
    assert not engine.has_work
