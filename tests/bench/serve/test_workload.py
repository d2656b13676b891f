"""Planned requests: repeatable, of the asked lengths, with shared prefixes and cancellations."""

from itertools import islice

import pytest

from ingot.bench.serve.lengths import parse_lengths
from ingot.bench.serve.workload import PlannedRequest, Workload, plan_requests


def test_token_ids_have_exact_lengths() -> None:
    requests = plan(20, token_ids=50, prefix_tokens=30)
    for request in requests:
        assert isinstance(request.prompt, list) and len(request.prompt) == 40
        assert all(16 <= token < 50 for token in request.prompt)
        assert request.prompt[:30] == requests[0].prompt[:30]
    assert len({tuple(request.prompt) for request in requests}) == 20


def plan(count: int, seed: int = 0, **changes: object) -> list[PlannedRequest]:
    lengths = {"prompt_tokens": parse_lengths("40"), "output_tokens": parse_lengths("uniform:2:9")}
    workload = Workload(**{**lengths, **changes})  # type: ignore[arg-type]
    return list(islice(plan_requests(workload, seed, words_per_token=0.5), count))


def test_a_seed_gives_the_same_requests() -> None:
    assert plan(5) == plan(5)
    assert plan(5) != plan(5, seed=1)
    assert len({request.prompt for request in plan(50)}) == 50


def test_words_follow_the_tokens() -> None:
    assert {len(request.prompt.split()) for request in plan(20)} == {20}
    assert {request.max_tokens for request in plan(200)} == set(range(2, 10))


def test_prefixes_are_shared_within_their_group() -> None:
    requests = plan(6, prefix_tokens=30, prefix_groups=2)
    starts = [" ".join(request.prompt.split()[:15]) for request in requests]
    assert starts[0] == starts[2] == starts[4] != starts[1] == starts[3] == starts[5]
    assert {len(request.prompt.split()) for request in requests} == {20}
    assert len({request.prompt for request in requests}) == 6


def test_a_share_is_cancelled_before_its_end() -> None:
    requests = plan(1000, cancel_share=0.3)
    cancelled = [request for request in requests if request.cancel_after is not None]
    assert len(cancelled) == pytest.approx(300, abs=60)
    assert all(1 <= (request.cancel_after or 0) <= request.max_tokens for request in cancelled)
