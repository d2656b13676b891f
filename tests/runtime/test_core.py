"""What the loop commits: when outputs end, what they say, what they cost."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingot.errors import QueueFull, RequestError
from ingot.runtime.outputs import Chunk
from ingot.runtime.sampling_params import SamplingParams

MakeRig = Callable[..., Any]


def greedy(toy: ModuleType, prompt: list[int], count: int) -> list[int]:
    """What the toy model answers, computed from its formula."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(toy.toy_logits(tokens).argmax()))
    return tokens[len(prompt) :]


def finish(rig: Any) -> list[Chunk]:
    chunks = []
    while rig.core.has_work:
        chunks += rig.core.step()
        rig.core.check_integrity()
    return chunks


def tokens_of(chunks: list[Chunk], request_id: int = 0) -> list[int]:
    return [t for chunk in chunks if chunk.request_id == request_id for t in chunk.token_ids]


def run(rig: Any, prompt: list[int], **wishes: Any) -> list[Chunk]:
    rig.core.add(prompt, SamplingParams(**{"ignore_eos": True, **wishes}))
    return finish(rig)


def test_greedy_follows_the_model(make_rig: MakeRig, toy: ModuleType) -> None:
    chunks = run(make_rig(), [3, 1, 4], max_tokens=9)
    assert tokens_of(chunks) == greedy(toy, [3, 1, 4], 9)
    assert [chunk.finish_reason for chunk in chunks] == [None] * 8 + ["length"]


def test_chunked_prefill_and_many_pages_change_nothing(make_rig: MakeRig, toy: ModuleType) -> None:
    prompt = [int(t) for t in np.random.default_rng(1).integers(1, 64, 41)]
    rig = make_rig(max_step_tokens=7, max_sequences=3)
    assert tokens_of(run(rig, prompt, max_tokens=6)) == greedy(toy, prompt, 6)
    assert [len(inputs.token_ids) for inputs in rig.executor.steps] == [7] * 5 + [6] + [1] * 5


def test_a_batch_answers_as_each_alone(make_rig: MakeRig, toy: ModuleType) -> None:
    rig = make_rig(num_pages=9, max_step_tokens=8, max_sequences=4)
    prompts = [[5] * 9, [7, 8], list(range(1, 14)), [9], [11, 12, 13]]
    ids = [rig.core.add(p, SamplingParams(max_tokens=12, ignore_eos=True)) for p in prompts]
    chunks = finish(rig)
    assert rig.core.counters.num_preemptions > 0, "this test is about preemption too"
    for request_id, prompt in zip(ids, prompts, strict=True):
        assert tokens_of(chunks, request_id) == greedy(toy, prompt, 12)


def test_end_token(make_rig: MakeRig, toy: ModuleType) -> None:
    expected = greedy(toy, [1, 2, 3], 40)
    end = expected.index(0)  # the toy model's end token
    rig = make_rig()
    rig.core.add([1, 2, 3], SamplingParams(max_tokens=40))
    chunks = finish(rig)
    assert tokens_of(chunks) == expected[: end + 1]
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].text == ""


def test_stop_token_is_not_text(make_rig: MakeRig, toy: ModuleType) -> None:
    expected = greedy(toy, [3, 1, 4], 4)
    chunks = run(make_rig(), [3, 1, 4], stop_token_ids=[expected[3]], max_tokens=20)
    assert tokens_of(chunks) == expected
    assert "".join(chunk.text for chunk in chunks) == "".join(f"w{t}" for t in expected[:3])
    assert chunks[-1].finish_reason == "stop"


def test_stop_string(make_rig: MakeRig, toy: ModuleType) -> None:
    words = [f"w{token}" for token in greedy(toy, [3, 1, 4], 6)]
    stop = words[2][1:] + words[3][:2]  # across two tokens
    chunks = run(make_rig(), [3, 1, 4], stop=[stop], max_tokens=20)
    assert "".join(chunk.text for chunk in chunks) == "".join(words[:2]) + "w"
    assert chunks[-1].finish_reason == "stop"


def test_min_tokens_forbids_the_end(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.core.add([1, 2, 3], SamplingParams(max_tokens=40, min_tokens=12))
    chunks = finish(rig)
    assert 0 not in tokens_of(chunks)[:12]
    assert len(tokens_of(chunks)) >= 12


def test_the_context_ends_the_output(make_rig: MakeRig, toy: ModuleType) -> None:
    rig = make_rig(num_pages=100)
    chunks = run(rig, [1] * (toy.MAX_CONTEXT - 3))
    assert len(tokens_of(chunks)) == 3
    assert chunks[-1].finish_reason == "length"


def test_the_cache_ends_the_output(make_rig: MakeRig) -> None:
    chunks = run(make_rig(num_pages=3, page_size=4), [1] * 10)
    assert len(tokens_of(chunks)) == 2


def test_penalties_and_bias(make_rig: MakeRig, toy: ModuleType) -> None:
    assert tokens_of(run(make_rig(), [3], logit_bias={42: 100}, max_tokens=3)) == [42] * 3
    for wishes in ({"presence_penalty": 1e6}, {"frequency_penalty": 1e6}):
        often = tokens_of(run(make_rig(), [3], max_tokens=30, **wishes))
        assert len(set(often)) == 30, "a token came twice"
    likeliest = int(toy.toy_logits([3]).argmax())
    repeated = run(make_rig(), [likeliest, 3], max_tokens=10, repetition_penalty=1e6)
    assert len({likeliest, 3, *tokens_of(repeated)}) == 12


def test_a_seed_gives_the_same_text_in_any_company(make_rig: MakeRig) -> None:
    wishes = SamplingParams(
        temperature=1.0, top_k=20, top_p=0.9, min_p=0.01, seed=5, max_tokens=12, ignore_eos=True
    )
    alone, busy = make_rig(), make_rig(num_pages=12, max_step_tokens=8, max_sequences=4)
    alone.core.add([1, 2], wishes)
    for prompt in ([7] * 11, [8], [9, 9]):
        busy.core.add(prompt, SamplingParams(temperature=1.0, max_tokens=12, ignore_eos=True))
    request_id = busy.core.add([1, 2], wishes)
    assert tokens_of(finish(busy), request_id) == tokens_of(finish(alone))


def test_logprobs_are_the_models_own(make_rig: MakeRig, toy: ModuleType) -> None:
    chunks = run(make_rig(), [3, 1], max_tokens=2, logprobs=3, logit_bias={42: 100})
    scores = toy.toy_logits([3, 1])
    expected = scores - np.log(np.exp(scores).sum())
    (first,) = chunks[0].logprobs
    assert first.token_id == 42
    assert first.logprob == pytest.approx(expected[42], abs=1e-5)
    assert [token for token, _ in first.top] == np.argsort(-expected)[:3].tolist()


def test_logprobs_only_where_asked(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.core.add([1], SamplingParams(max_tokens=1, logprobs=0))
    rig.core.add([2], SamplingParams(max_tokens=1))
    first, second = finish(rig)
    assert first.logprobs[0].top == ()
    assert second.logprobs == ()


def test_stats(make_rig: MakeRig) -> None:
    rig = make_rig()  # its clock moves a second at each look: at arrival, a step's start and end
    rig.core.add([1, 2], SamplingParams(max_tokens=3, ignore_eos=True))
    stats = finish(rig)[-1].stats
    assert stats is not None
    assert (stats.num_prompt_tokens, stats.num_output_tokens) == (2, 3)
    assert (stats.ttft_s, stats.tpot_s, stats.total_s) == (2, 2, 6)
    assert (stats.queue_s, stats.prefill_s, stats.decode_s) == (1, 1, 4)
    assert (stats.longest_stall_s, stats.longest_step_s) == (0, 1)
    counters = rig.core.counters
    assert (counters.num_steps, counters.num_output_tokens, counters.num_finished) == (3, 3, 1)


def test_a_stall_is_a_gap_while_a_prompt_is_read(make_rig: MakeRig) -> None:
    rig = make_rig(max_step_tokens=8, max_sequences=4)
    rig.core.add([1], SamplingParams(max_tokens=8, ignore_eos=True))
    rig.core.step()
    rig.core.step()
    rig.core.add([2] * 20, SamplingParams(max_tokens=1, ignore_eos=True))  # three steps
    prompt, stream = (chunk.stats for chunk in finish(rig) if chunk.stats is not None)
    # A step begins one second after the last one's end, and the new prompt's arrival took one.
    assert (stream.longest_stall_s, stream.longest_step_s) == (3, 1)
    assert (prompt.longest_stall_s, prompt.longest_step_s) == (0, 1)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    history=st.lists(st.tuples(st.sampled_from("asx"), st.integers(1, 30)), max_size=30),
    num_pages=st.integers(12, 20),
    max_step_tokens=st.integers(4, 24),
)
def test_any_history_of_requests(
    make_rig: MakeRig,
    toy: ModuleType,
    history: list[tuple[str, int]],
    num_pages: int,
    max_step_tokens: int,
) -> None:
    """Add, step and abort in any order: who is not aborted gets the model's own answer."""
    rig = make_rig(num_pages=num_pages, max_step_tokens=max_step_tokens, max_sequences=4)
    prompts: dict[int, list[int]] = {}
    chunks: list[Chunk] = []
    for action, amount in history:
        if action == "a":
            prompt = [1 + (amount * 7 + i) % 63 for i in range(amount)]
            params = SamplingParams(max_tokens=1 + amount % 9, ignore_eos=True)
            prompts[rig.core.add(prompt, params)] = prompt
        elif action == "s":
            chunks += rig.core.step()
        elif prompts and rig.core.abort(amount % len(prompts)):
            prompts[amount % len(prompts)] = []
        rig.core.check_integrity()
    chunks += finish(rig)
    for request_id, prompt in prompts.items():
        if prompt:
            expected = greedy(toy, prompt, 1 + len(prompt) % 9)
            assert tokens_of(chunks, request_id) == expected
    assert rig.core.pool.num_used == 0


def test_abort_waiting_and_running(make_rig: MakeRig) -> None:
    rig = make_rig(max_sequences=1)
    running, waiting = (rig.core.add([t], SamplingParams(max_tokens=9)) for t in (1, 2))
    rig.core.step()
    for request_id in (running, waiting):
        (chunk,) = rig.core.abort(request_id)
        assert (chunk.finish_reason, chunk.is_last) == ("abort", True)
        rig.core.check_integrity()
    assert rig.core.abort(running) == []
    assert not rig.core.has_work
    assert rig.core.pool.num_used == 0


def test_a_failed_step_can_be_run_again(make_rig: MakeRig, toy: ModuleType) -> None:
    rig = make_rig()
    rig.core.add([3, 1, 4], SamplingParams(max_tokens=5, ignore_eos=True))
    step, rig.executor.step = rig.executor.step, lambda inputs: 1 / 0
    with pytest.raises(ZeroDivisionError):
        rig.core.step()
    rig.core.check_integrity()
    rig.executor.step = step
    assert tokens_of(finish(rig)) == greedy(toy, [3, 1, 4], 5)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "the prompt is empty; it needs at least one token"),
        ([64], "a token outside 0 to 63"),
        ([1, -1], "a token outside 0 to 63"),
        ([1] * 256, "the prompt has 256 tokens; the model's context holds 256"),
        ([1] * 40, "the prompt has 40 tokens; the KV cache holds 40"),
    ],
)
def test_refused_prompts(make_rig: MakeRig, prompt: list[int], message: str) -> None:
    rig = make_rig(num_pages=10)
    with pytest.raises(RequestError, match=message):
        rig.core.add(prompt, SamplingParams())
    assert not rig.core.has_work


def test_refused_tokens(make_rig: MakeRig) -> None:
    with pytest.raises(RequestError, match="stop_token_ids has token 64"):
        make_rig().core.add([1], SamplingParams(stop_token_ids=[64]))


def test_the_queue_is_full_when_those_that_can_start_are_not_counted(make_rig: MakeRig) -> None:
    rig = make_rig(max_sequences=2, max_waiting=1)
    for _ in range(3):  # all before the first step: two of them can start
        rig.core.add([1], SamplingParams(max_tokens=3, ignore_eos=True))
    with pytest.raises(QueueFull, match="1 requests are waiting, as many as") as full:
        rig.core.add([1], SamplingParams())
    assert full.value.retry_after_s == 1, "nothing has finished yet"
    rig.core.step()
    with pytest.raises(QueueFull):
        rig.core.add([1], SamplingParams())
    finish(rig)
    rig.core.add([1], SamplingParams(max_tokens=3))
    finish(rig)
    none = make_rig(max_sequences=1, max_waiting=0)
    none.core.add([1], SamplingParams(max_tokens=3))
    with pytest.raises(QueueFull):
        none.core.add([1], SamplingParams())
    finish(none)
