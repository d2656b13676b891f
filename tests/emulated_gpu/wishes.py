"""`wishes.py ARTIFACT`: decode with penalties, masks and log-probabilities, emulating a GPU.

Prints as JSON, for each case, the tokens and log-probabilities of each request, what each step
asked of the GPU, and how many steps listed too many tokens for graphs. Without graphs the
probabilities are worked out on the host.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ingot import Engine, SamplingParams
from ingot.environment import read_variable
from ingot.runtime.constraints import Regex
from ingot.runtime.cuda import graph
from ingot.runtime.outputs import TokenLogprob
from ingot.runtime.sampling import Wishes, rank_rows
from tests.emulated_gpu.counts import read_counts

PENALIZED = {
    "repetition_penalty": 1.4,
    "presence_penalty": 0.3,
    "frequency_penalty": 0.2,
    "logit_bias": {7: 2.5, 11: -4.0},
    "min_tokens": 3,
}
CONSTRAINED = {"constraint": Regex("[a-m]{40}")}
DRAWN = {"temperature": 1.0, "top_p": 0.9}
PLAIN = {"ignore_eos": True}
CASES: dict[str, list[dict[str, Any]]] = {
    "penalties": [{**PENALIZED, **PLAIN}, {**DRAWN, **PLAIN}],
    "masks": [CONSTRAINED, PLAIN, {**CONSTRAINED, **DRAWN}],
    "logprobs": [{"logprobs": 3, "prompt_logprobs": 2, **DRAWN, **PLAIN}, PLAIN],
    "all": [
        {**PENALIZED, **CONSTRAINED, "logprobs": 20},
        PLAIN,
        {**PENALIZED, **PLAIN, **DRAWN, "logprobs": 0},
    ],
    "too many": [{**PENALIZED, **PLAIN}],
}
NUM_TOKENS = 7


def rank_on_the_host(executor: Any) -> None:
    def rank(kept: Any, tokens: list[int], wishes: Wishes) -> list[TokenLogprob | None]:
        return rank_rows(executor._memory.read(kept)[wishes.asked_rows], tokens, wishes)

    executor.rank = rank


def main(artifact: str) -> None:
    cases: dict[str, Any] = {}
    with Engine(artifact, num_pages=16, max_sequences=4) as engine:
        if not read_variable("INGOT_CUDA_GRAPHS"):
            rank_on_the_host(engine._open().executor)
        for name, requests in CASES.items():
            if name == "too many":
                graph.MAX_LISTED = 3
            tokens: dict[int, list[int]] = {}
            logprobs: list[Any] = []
            steps = []
            for seed, wishes in enumerate(requests):
                params = SamplingParams(max_tokens=NUM_TOKENS, seed=seed, **wishes)
                engine.add_request(list(range(10 + seed, 17 + 2 * seed)), params)
            while engine.has_work:
                before = read_counts()
                for chunk in engine.step():
                    tokens.setdefault(chunk.request_id, []).extend(chunk.token_ids)
                    for it in (*chunk.prompt_logprobs, *chunk.logprobs):
                        logprobs += [(it.token_id, it.logprob), *it.top]
                steps.append((read_counts() - before).values())
            misses = engine.counters.num_graph_misses
            found = {"tokens": list(tokens.values()), "logprobs": logprobs}
            cases[name] = {**found, "steps": steps, "misses": misses}
    print(json.dumps(cases))


if __name__ == "__main__":
    main(*sys.argv[1:])
