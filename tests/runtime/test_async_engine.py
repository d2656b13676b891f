"""The engine's asyncio face: what the child brings, and what its end means for those who wait."""

import asyncio
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ingot.errors import ArtifactError, EngineDead, QueueFull, RequestError
from ingot.runtime.async_engine import AsyncEngine
from ingot.runtime.outputs import Chunk
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampling_params import SamplingParams
from tests.tolerances import assert_close

FIVE = SamplingParams(max_tokens=5, ignore_eos=True)
LONG = SamplingParams(max_tokens=200, ignore_eos=True)

Scenario = Callable[[AsyncEngine], Coroutine[Any, Any, None]]


def play(folder: Path, scenario: Scenario, **options: Any) -> None:
    """Run a scenario against an engine of its own."""

    async def run() -> None:
        async with await AsyncEngine.start(folder, num_pages=64, **options) as engine:
            await scenario(engine)

    asyncio.run(asyncio.wait_for(run(), 60))


async def settle(engine: AsyncEngine) -> None:
    """Until the engine has nothing to do."""
    while (stats := engine.stats()).num_running or stats.num_waiting:
        await asyncio.sleep(0.01)


def words(toy: ModuleType, prompt: list[int], count: int) -> str:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(toy.toy_logits(tokens).argmax()))
    return "".join(f"w{token}" for token in tokens[len(prompt) :])


def test_embeddings_beside_streams(toy_folder: Path, toy: ModuleType) -> None:
    prompts = [[3, 1, 4], [7] * 70, [5]]  # one is longer than a step

    async def scenario(engine: AsyncEngine) -> None:
        stream = asyncio.create_task(engine.generate([2, 1], FIVE))
        vectors = await asyncio.gather(*(engine.embed(p, normalize=False) for p in prompts))
        for vector, prompt in zip(vectors, prompts, strict=True):
            assert vector.dtype == np.float32
            assert_close(vector, toy.toy_logits(prompt).astype(np.float32), "elementwise")
        assert (await stream)[0].text == words(toy, [2, 1], 5)
        with pytest.raises(RequestError, match="dimensions is 65"):
            await engine.embed("w1", dimensions=toy.VOCAB + 1)
        with pytest.raises(RequestError, match="context holds 256$"):
            await engine.embed([1] * 257)

    play(toy_folder, scenario, max_step_tokens=64, max_sequences=4)


def test_requests_side_by_side(toy_folder: Path, toy: ModuleType) -> None:
    async def scenario(engine: AsyncEngine) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):  # the application decides when to stop
            os.kill(engine._process.pid, number)
        prompts = [[token, 1] for token in range(2, 8)]
        done = await asyncio.gather(*(engine.generate(prompt, FIVE) for prompt in prompts))
        assert [d[0].text for d in done] == [words(toy, prompt, 5) for prompt in prompts]
        streamed = [chunk async for chunk in engine.stream("w3 w1", FIVE, RequestOptions())]
        assert "".join(chunk.text for chunk in streamed) == words(toy, [3, 1], 5)
        assert streamed[-1].stats is not None
        await settle(engine)
        stats = engine.stats()
        assert (stats.counters.num_requests, stats.counters.num_finished) == (7, 7)
        assert stats.num_pages == len(stats.page_map) == 64
        assert engine.model_info.model.name == "toy"
        assert engine.tokenizer.encode("w3") == [3]

    play(toy_folder, scenario)


def test_leaving_a_stream_frees_its_pages(toy_folder: Path) -> None:
    async def scenario(engine: AsyncEngine) -> None:
        async for _ in engine.stream([3, 1], LONG):
            break
        follower = asyncio.create_task(collect(engine, [4]))
        await asyncio.sleep(0)
        follower.cancel()
        with pytest.raises(asyncio.CancelledError):
            await follower
        await settle(engine)
        stats = engine.stats()
        assert stats.num_used_pages == stats.num_shared_pages == 0
        assert stats.counters.num_output_tokens < 2 * 200

    play(toy_folder, scenario)


async def collect(engine: AsyncEngine, prompt: list[int]) -> list[Chunk]:
    return [chunk async for chunk in engine.stream(prompt, LONG)]


def test_bad_requests_end_alone(toy_folder: Path, toy: ModuleType) -> None:
    async def scenario(engine: AsyncEngine) -> None:
        bad: list[tuple[Any, str]] = [([], "empty"), ("", "empty"), ([99], "outside 0 to 63")]
        for prompt, message in bad:
            with pytest.raises(RequestError, match=message):
                await engine.generate(prompt)
        assert (await engine.generate([3, 1], FIVE))[0].text == words(toy, [3, 1], 5)

    play(toy_folder, scenario)


def test_a_full_queue_says_when_to_come_back(toy_folder: Path) -> None:
    async def scenario(engine: AsyncEngine) -> None:
        tasks = [asyncio.create_task(collect(engine, [token])) for token in range(1, 9)]
        done = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [error for error in done if isinstance(error, QueueFull)]
        assert refused and len(refused) < 8
        assert 1 <= refused[0].retry_after_s <= 60
        assert "as many as the engine lets wait" in str(refused[0])

    play(toy_folder, scenario, max_sequences=1, max_waiting=2)


def test_a_full_queue_is_told_while_a_step_runs(toy_folder: Path) -> None:
    async def scenario(engine: AsyncEngine) -> None:
        os.kill(engine._process.pid, signal.SIGSTOP)  # a step that never ends
        waiting = [asyncio.create_task(collect(engine, [token])) for token in (1, 2, 3)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull, match="2 requests are waiting"):
            await engine.generate([4])
        waiting.pop().cancel()
        await asyncio.sleep(0)
        last = asyncio.create_task(collect(engine, [5]))
        await asyncio.sleep(0)
        os.kill(engine._process.pid, signal.SIGCONT)
        done = await asyncio.gather(*waiting, last)
        assert [len(chunks) > 0 for chunks in done] == [True, True, True]

    play(toy_folder, scenario, max_sequences=1, max_waiting=2)


def test_what_a_reader_missed_comes_at_once(toy_folder: Path, toy: ModuleType) -> None:
    async def scenario(engine: AsyncEngine) -> None:
        chunks: list[Chunk] = []
        async for chunk in engine.stream([3, 1], FIVE):
            chunks.append(chunk)
            if len(chunks) == 1:
                await settle(engine)
        assert len(chunks) <= 2
        assert "".join(chunk.text for chunk in chunks) == words(toy, [3, 1], 5)
        assert sum(len(chunk.token_ids) for chunk in chunks) == 5
        assert chunks[-1].stats is not None and chunks[-1].is_last

    play(toy_folder, scenario)


def test_acceptance_is_told_and_refusal_is_not(toy_folder: Path) -> None:
    async def scenario(engine: AsyncEngine) -> None:
        accepted: list[int] = []

        async def ask(token: int) -> None:
            take = functools.partial(accepted.append, token)
            async for _ in engine.stream([token], FIVE, on_accepted=take):
                assert token in accepted  # before its first chunk

        done = await asyncio.gather(*map(ask, range(1, 9)), return_exceptions=True)
        refused = {token for token, error in enumerate(done, start=1) if error is not None}
        assert refused and set(accepted) == set(range(1, 9)) - refused
        assert len(accepted) == len(set(accepted))

    play(toy_folder, scenario, max_sequences=1, max_waiting=2)


def test_a_crash_reaches_everyone_who_waits(toy_folder: Path) -> None:
    async def scenario(engine: AsyncEngine) -> None:
        os.kill(engine._process.pid, signal.SIGSTOP)  # so that it ends before it answers
        tasks = [asyncio.create_task(collect(engine, [token])) for token in (1, 2)]
        await asyncio.sleep(0)
        assert engine.failure is None
        os.kill(engine._process.pid, signal.SIGKILL)
        for task in tasks:
            with pytest.raises(EngineDead, match="was ended by SIGKILL"):
                await task
        assert engine.failure == "the engine's process was ended by SIGKILL"
        with pytest.raises(EngineDead, match="SIGKILL"):
            await engine.generate([1])

    play(toy_folder, scenario)


def test_closing_ends_what_runs(toy_folder: Path) -> None:
    async def scenario(engine: AsyncEngine) -> None:
        task = asyncio.create_task(collect(engine, [1]))
        await asyncio.sleep(0)
        await engine.close()
        with pytest.raises(EngineDead, match="the engine is closed"):
            await task
        assert engine._process.returncode == 0

    play(toy_folder, scenario)


def test_a_bad_artifact_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="manifest.json"):
        asyncio.run(AsyncEngine.start(tmp_path))


def test_an_unknown_option(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no option 'cheese'"):
        asyncio.run(AsyncEngine.start(tmp_path, cheese=1))  # type: ignore[call-arg]


def test_the_process_ends_with_the_application(toy_folder: Path) -> None:
    code = (
        "import asyncio, os, sys\n"
        "from ingot.runtime.async_engine import AsyncEngine\n"
        "async def run():\n"
        "    engine = await AsyncEngine.start(sys.argv[1], num_pages=64)\n"
        "    print(engine._process.pid, flush=True)\n"
        "    os._exit(0)\n"
        "asyncio.run(run())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(toy_folder)], capture_output=True, text=True, check=True
    )
    child = Path("/proc") / run.stdout.strip()
    deadline = time.monotonic() + 60
    while child.exists() and "State:\tZ" not in (child / "status").read_text():
        assert time.monotonic() < deadline, "the engine outlived its application"
        time.sleep(0.02)
