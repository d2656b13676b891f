"""Many streams at once in asyncio: `python async_streams.py ARTIFACT PROMPT ...`.

The engine runs in a process of its own. Leaving a stream, by `break` or by cancelling its task,
stops the request and frees its pages.
"""

import asyncio
import sys

from ingot import AsyncEngine, SamplingParams
from ingot.errors import EngineDead, QueueFull


async def complete(engine: AsyncEngine, prompt: str) -> str:
    text = ""
    while True:
        try:
            async for chunk in engine.stream(prompt, SamplingParams(max_tokens=64)):
                text += chunk.text
                if "\n\n" in text:
                    break  # that is all this application wanted to know
            return text
        except QueueFull as full:
            await asyncio.sleep(full.retry_after_s)


async def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    artifact, *prompts = sys.argv[1:]
    async with await AsyncEngine.start(artifact, max_waiting=32) as engine:
        try:
            texts = await asyncio.gather(*(complete(engine, prompt) for prompt in prompts))
        except EngineDead as dead:  # every request that was running is told
            sys.exit(f"the engine is gone: {dead}")
        for prompt, text in zip(prompts, texts, strict=True):
            print(prompt + text)
        print(f"{engine.stats().counters.num_output_tokens} tokens")


asyncio.run(main())
