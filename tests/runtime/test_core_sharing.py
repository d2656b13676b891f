"""Known starts of prompts are not computed again, by those who may know them."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from ingot.runtime.outputs import Chunk
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampling_params import SamplingParams

MakeRig = Callable[..., Any]
PROMPT = [1 + i % 50 for i in range(16)]  # four pages of four


def run(rig: Any, prompt: list[int], options: RequestOptions | None = None, **wishes: Any) -> Chunk:
    """The last chunk of one request, run alone."""
    params = SamplingParams(**{"max_tokens": 2, "ignore_eos": True, **wishes})
    rig.core.add(prompt, params, options)
    chunks: list[Chunk] = []
    while rig.core.has_work:
        chunks += rig.core.step()
        rig.core.check_integrity()
    return chunks[-1]


@pytest.mark.parametrize(
    ("second", "num_computed", "num_found"),
    [
        ([*PROMPT, 60, 61], 2, 16),
        (PROMPT[:10], 2, 8),
        (PROMPT[:3], 3, 0),
        ([9, *PROMPT[1:]], 16, 0),
        (PROMPT, 1, 15),  # all of it: the last token runs again for its logits
        (PROMPT[:8], 1, 7),
    ],
)
def test_how_much_is_computed(
    make_rig: MakeRig, second: list[int], num_computed: int, num_found: int
) -> None:
    rig = make_rig()
    run(rig, PROMPT)
    before = len(rig.executor.steps)
    last = run(rig, second)
    assert len(rig.executor.steps[before].token_ids) == num_computed
    assert last.stats is not None and last.stats.num_prefix_hit_tokens == num_found
    assert rig.core.counters.num_prefix_hit_tokens == num_found


def test_a_conversation_finds_the_answer_too(make_rig: MakeRig, toy: ModuleType) -> None:
    rig = make_rig()
    tokens = list(PROMPT)
    run(rig, tokens, max_tokens=9)
    for _ in range(9):
        tokens.append(int(toy.toy_logits(tokens).argmax()))
    last = run(rig, [*tokens, 3, 3])
    assert last.stats.num_prefix_hit_tokens == 24, "its last token was never computed"


@pytest.mark.parametrize(
    ("first", "second", "num_found"),
    [
        ({}, {}, 15),
        ({"prefix_cache": False}, {}, 0),
        ({}, {"prefix_cache": False}, 0),
        ({"cache_salt": "a"}, {"cache_salt": "b"}, 0),
        ({"cache_salt": "a"}, {}, 0),
        ({"cache_salt": "a"}, {"cache_salt": "a"}, 15),
    ],
)
def test_who_shares(
    make_rig: MakeRig, first: dict[str, Any], second: dict[str, Any], num_found: int
) -> None:
    rig = make_rig()
    run(rig, PROMPT, RequestOptions(**first))
    last = run(rig, PROMPT, RequestOptions(**second))
    assert last.stats.num_prefix_hit_tokens == num_found


def test_running_requests_share(make_rig: MakeRig) -> None:
    rig = make_rig()
    for _ in range(3):
        rig.core.add(PROMPT, SamplingParams(max_tokens=9, ignore_eos=True))
        rig.core.step()
    stats = rig.core.stats()
    assert (stats.num_shared_pages, stats.num_running) == (4, 3)
    rig.core.abort_all()
    assert rig.core.stats().num_cached_pages == 4
