"""Several prompts in one batch, two outputs each: `python generate.py ARTIFACT PROMPT ...`."""

import sys

from ingot import Engine, SamplingParams

if len(sys.argv) < 3:
    sys.exit(__doc__)
artifact, *prompts = sys.argv[1:]
params = SamplingParams(n=2, temperature=0.8, seed=1, max_tokens=32)

with Engine(artifact) as engine:
    for completion in engine.generate(prompts, params):
        print(f"--- request {completion.request_id}, output {completion.index}")
        print(completion.text)
        print(f"({completion.finish_reason}, {completion.stats.num_output_tokens} tokens)")
