"""Several outputs of one prompt: who gets what, when the request is over, which are the best."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from ingot.errors import RequestError
from ingot.runtime.outputs import Chunk, join_chunks
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampling_params import SamplingParams

MakeRig = Callable[..., Any]


def finish(rig: Any) -> list[Chunk]:
    chunks = []
    while rig.core.has_work:
        chunks += rig.core.step()
        rig.core.check_integrity()
    return chunks


def sampled(**wishes: Any) -> SamplingParams:
    return SamplingParams(**{"temperature": 1.0, "seed": 3, "ignore_eos": True, **wishes})


def test_outputs_share_the_prompts_pages(make_rig: MakeRig) -> None:
    rig = make_rig(num_pages=32, page_size=4)
    rig.core.add([5] * 10, sampled(n=3, max_tokens=6))
    rig.core.step()
    first, second, third = rig.core.scheduler.running
    assert first.pages[:2] == second.pages[:2] == third.pages[:2], "two full pages"
    assert len({first.pages[2], second.pages[2], third.pages[2]}) == 3, "copies of the last"
    stats = rig.core.stats()
    assert (stats.num_shared_pages, stats.num_used_pages) == (2, 3)
    done = join_chunks(finish(rig))
    assert len(rig.executor.steps[0].token_ids) == 10, "the prompt was read once"
    assert [len(inputs.token_ids) for inputs in rig.executor.steps[1:]] == [3] * 5
    assert [d.index for d in done] == [0, 1, 2]


def test_each_output_draws_its_own_tokens(make_rig: MakeRig) -> None:
    one = make_rig()
    one.core.add([5, 6], sampled(n=4, max_tokens=8))
    texts = [d.text for d in join_chunks(finish(one))]
    assert len(set(texts)) == 4
    again = make_rig(max_sequences=2, num_pages=5, page_size=4)  # some wait, some are preempted
    again.core.add([5, 6], sampled(n=4, max_tokens=8))
    assert [d.text for d in join_chunks(finish(again))] == texts
    alone = make_rig()
    alone.core.add([5, 6], sampled(max_tokens=8))
    assert join_chunks(finish(alone))[0].text == texts[0]


def test_a_fork_is_not_found_under_its_parents_tokens(make_rig: MakeRig) -> None:
    """The parent's first token fills a page; the fork's page has another token there."""
    rig = make_rig(num_pages=8, page_size=4)
    rig.core.add([5] * 7, sampled(n=2, max_tokens=9))
    rig.core.step()
    rig.core.step()
    parent, fork = rig.core.scheduler.running
    assert parent.tokens[7] != fork.tokens[7]
    assert parent.page_hashes[0] == fork.page_hashes[0]
    assert parent.page_hashes[1] != fork.page_hashes[1]
    finish(rig)


def test_one_chunk_is_the_last(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.core.add([5], sampled(n=3, max_tokens=1))
    chunks = finish(rig)
    assert [c.is_last for c in chunks] == [False, False, True]
    assert {c.finish_reason for c in chunks} == {"length"}
    assert rig.core.counters.num_finished == 1


@pytest.mark.parametrize("num_steps", [0, 1, 2])
def test_abort_ends_every_output(make_rig: MakeRig, num_steps: int) -> None:
    rig = make_rig(max_sequences=2, max_step_tokens=6)
    request_id = rig.core.add([5] * 10, sampled(n=3, max_tokens=9))  # read in two steps
    for _ in range(num_steps):
        rig.core.step()
    chunks = rig.core.abort(request_id)
    assert sorted(c.index for c in chunks) == [0, 1, 2]
    assert [c.is_last for c in chunks] == [False, False, True]
    assert not rig.core.has_work
    assert rig.core.pool.num_used == 0


def test_the_best_of_several(make_rig: MakeRig) -> None:
    params = sampled(n=5, max_tokens=4, logprobs=0)
    rig = make_rig()
    rig.core.add([5], params)
    every = join_chunks(finish(rig))
    best = sorted(every, key=lambda d: -sum(p.logprob for p in d.logprobs) / len(d.token_ids))
    for wanted in (1, 2):
        ranked = make_rig()
        ranked.core.add([5], sampled(n=wanted, best_of=5, max_tokens=4))
        chunks = finish(ranked)
        assert [c.is_last for c in chunks].index(True) == len(chunks) - 1
        done = join_chunks(chunks)
        assert [d.token_ids for d in done] == [d.token_ids for d in best[:wanted]]
        assert [d.index for d in done] == list(range(wanted))
        assert not any(d.logprobs for d in done), "nobody asked"


def test_nothing_is_known_of_the_best_before_the_end(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.core.add([5], sampled(best_of=2, max_tokens=3))
    assert [len(rig.core.step()) for _ in range(3)] == [0, 0, 3]


def test_prompt_logprobs_in_chunks(make_rig: MakeRig, toy: ModuleType) -> None:
    import numpy as np

    prompt = [int(t) for t in np.random.default_rng(1).integers(1, 64, 150)]
    rig = make_rig(num_pages=100, max_step_tokens=200)
    rig.core.add([9, 9], SamplingParams(max_tokens=20, ignore_eos=True))
    rig.core.add(prompt, sampled(n=2, max_tokens=2, prompt_logprobs=1))
    chunks = [chunk for chunk in finish(rig) if chunk.request_id == 1]
    done = join_chunks(chunks)
    assert [len(inputs.token_ids) for inputs in rig.executor.steps[:3]] == [66, 65, 23]
    for output in done:
        assert [p.token_id for p in output.prompt_logprobs] == prompt[1:]
        for place in (0, 63, 64, 148):
            scores = toy.toy_logits(prompt[: place + 1])
            expected = scores - np.log(np.exp(scores).sum())
            logprob = output.prompt_logprobs[place]
            assert logprob.logprob == pytest.approx(expected[prompt[place + 1]], abs=1e-4)
            assert logprob.top[0][0] == int(scores.argmax())
    again = make_rig(num_pages=100)
    for _ in range(2):  # cached pages have no logits: the prompt is computed again
        again.core.add(prompt, sampled(max_tokens=2, prompt_logprobs=0))
        assert len(join_chunks(finish(again))[0].prompt_logprobs) == 149


def test_refused_numbers_of_outputs() -> None:
    for wishes in ({"n": 0}, {"n": 129}, {"n": 3, "best_of": 2}, {"prompt_logprobs": 21}):
        with pytest.raises(RequestError, match=f"{list(wishes)[-1]} is"):
            SamplingParams(**wishes)  # type: ignore[arg-type]


def test_a_deadline_ends_waiting_and_running_requests(make_rig: MakeRig) -> None:
    rig = make_rig(max_sequences=1)  # its clock moves a second at each look
    options = RequestOptions(timeout_s=9)
    for _ in range(2):
        rig.core.add([5], sampled(n=2, max_tokens=200), options)
    chunks = finish(rig)
    reasons = [(c.request_id, c.finish_reason) for c in chunks if c.finish_reason]
    assert sorted(reasons) == [(0, "timeout")] * 2 + [(1, "timeout")] * 2
    assert rig.executor.steps, "one of them ran"
    stats = [c.stats for c in chunks if c.is_last]
    assert stats[1].queue_s == stats[1].total_s >= 9
    assert stats[1].prefill_s == stats[1].decode_s == 0
