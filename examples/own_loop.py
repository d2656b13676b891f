"""An application that drives the engine itself: `python own_loop.py ARTIFACT PROMPT ...`.

The first prompt goes before the others, and all have ten seconds.
"""

import sys

from ingot import Engine, RequestOptions, SamplingParams

if len(sys.argv) < 3:
    sys.exit(__doc__)
artifact, *prompts = sys.argv[1:]

with Engine(artifact, max_sequences=4) as engine:
    running = {}
    for place, prompt in enumerate(prompts):
        options = RequestOptions(priority=1 if place == 0 else 0, timeout_s=10)
        running[engine.add_request(prompt, SamplingParams(max_tokens=24), options)] = prompt
    while engine.has_work:
        # Here an application looks after its other work: one step is never long.
        for chunk in engine.step():
            print(f"{running[chunk.request_id]!r}: {chunk.text!r}")
            if chunk.is_last:
                print(f"{running.pop(chunk.request_id)!r} is done: {chunk.finish_reason}")
    stats = engine.stats()
    print(f"{stats.counters.num_output_tokens} tokens, {stats.num_cached_pages} pages kept")
