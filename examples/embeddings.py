"""An application that compares texts: `python embeddings.py ARTIFACT TEXT ...`.

Each text after the first, and how close it is to the first.
"""

import sys

from ingot import Engine

if len(sys.argv) < 3:
    sys.exit(__doc__)
artifact, *texts = sys.argv[1:]

with Engine(artifact) as engine:
    first, *others = engine.embed(texts, pooling="mean")
    for text, vector in zip(texts[1:], others, strict=True):
        print(f"{first @ vector:6.3f} {text!r}")
    print(f"{engine.counters.num_prompt_tokens} tokens read, vectors of {len(first)}")
