"""`decode.py ARTIFACT`: run a batch that decodes, in a process that emulates a GPU.

Prints as JSON the tokens of each request, what each step asked of the GPU, the progress of the
weights' copies, and what the process loaded that only a compiler needs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ingot import Engine, SamplingParams
from tests.emulated_gpu.counts import read_counts


def main(artifact: str) -> None:
    # Lengths differ so that rows fall away: four rows, then three in the same bucket, two, one.
    # The last comes to its second page on the way.
    lengths = {4: 6, 7: 8, 3: 13, 22: 16}
    tokens: dict[int, list[int]] = {}
    steps = []
    sent: list[tuple[int, int]] = []
    with Engine(
        artifact, num_pages=16, max_sequences=4, on_progress=lambda *it: sent.append(it)
    ) as engine:
        for seed, (prompt_tokens, max_tokens) in enumerate(lengths.items()):
            params = SamplingParams(
                max_tokens=max_tokens, temperature=seed % 2, seed=seed, ignore_eos=True
            )
            engine.add_request(list(range(10 + seed, 10 + seed + prompt_tokens)), params)
        while engine.has_work:
            before = read_counts()
            for chunk in engine.step():
                tokens.setdefault(chunk.request_id, []).extend(chunk.token_ids)
            steps.append((read_counts() - before).values())
    mapped = Path("/proc/self/maps").read_text()
    heavy = [name for name in ("torch", "transformers", "tvm", "cuda") if name in sys.modules]
    heavy += [name for name in ("libtvm_compiler", "libnvrtc", "libtorch") if name in mapped]
    result = {"tokens": list(tokens.values()), "steps": steps, "sent": sent, "heavy": heavy}
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
