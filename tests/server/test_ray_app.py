"""Two replicas on this machine, behind the server: routing, aborts, errors, a replica's death."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ingot.errors import EngineDead, RequestError, UsageError
from ingot.runtime.engine_stats import Counters, EngineStats
from ingot.runtime.outputs import Chunk
from ingot.runtime.sampling_params import SamplingParams

pytest.importorskip("ray", reason="needs the ray extra: pip install 'ingot[ray]'")

from ingot.runtime.server.ray_app import (  # noqa: E402
    ReplicatedEngine,
    Scale,
    add_stats,
    start_replicas,
)

BUILDER = Path(__file__).parents[1] / "runtime" / "toy_artifact.py"
LONG = SamplingParams(max_tokens=120, ignore_eos=True)


def test_scale_is_checked_and_told() -> None:
    assert Scale(2).settings()["num_replicas"] == 2
    settings = Scale(1, 4, 8.0, 5.0, 60.0).settings()["autoscaling_config"]
    assert (settings.min_replicas, settings.max_replicas) == (1, 4)
    assert settings.target_ongoing_requests == 8.0
    assert (settings.upscale_delay_s, settings.downscale_delay_s) == (5.0, 60.0)
    assert settings.look_back_period_s == 5.0
    with pytest.raises(UsageError, match="max_replicas is 1, fewer than replicas, 2"):
        Scale(2, 1)


def test_stats_add_up() -> None:
    one = EngineStats(1, 2, 4, 1, 1, 1, 1, bytes([0, 1, 2, 3]), Counters(num_requests=3))
    both = add_stats([one, one])
    assert (both.num_waiting, both.num_running, both.num_pages) == (2, 4, 8)
    assert both.page_map == bytes([0, 1, 2, 3, 0, 1, 2, 3])
    assert both.counters.num_requests == 6
    assert add_stats([]).num_pages == 0
    # what a replica that is gone has done stays in the totals
    assert add_stats([one], both.counters).counters.num_requests == 9


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    subprocess.run([sys.executable, str(BUILDER), str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def engine(artifact: Path, loop: asyncio.Runner) -> Iterator[ReplicatedEngine]:
    start = start_replicas(Scale(2))
    engine = loop.run(start(artifact, num_threads=1, num_pages=64))
    yield engine
    if engine.failure is None:
        loop.run(engine.close())


async def read(engine: ReplicatedEngine, prompt: list[int], params: SamplingParams) -> Chunk:
    """The last chunk."""
    return [chunk async for chunk in engine.stream(prompt, params)][-1]


async def until(condition: Callable[[], bool], limit_s: float = 180.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.05)


def test_prompts_find_their_replica(engine: ReplicatedEngine, loop: asyncio.Runner) -> None:
    async def run() -> None:
        await until(lambda: engine.num_replicas == 2)
        assert engine.stats().num_pages == 128
        # whoever was asked first is asked again, and has the beginning in its cache
        prefix = [1 + number % 40 for number in range(130)]
        hits = []
        for last in range(1, 6):
            chunk = await read(engine, [*prefix, last], SamplingParams(max_tokens=2))
            assert chunk.stats is not None
            hits.append(chunk.stats.num_prefix_hit_tokens)
        assert hits[0] == 0 and min(hits[1:]) >= 112
        # different prompts at the same time go to both
        before = {name: one.counters.num_requests for name, one in engine._reports.items()}
        await asyncio.gather(*(read(engine, [9 + n] * 70, LONG) for n in range(8)))
        await until(
            lambda: all(
                one.counters.num_requests > before[name] for name, one in engine._reports.items()
            )
        )

    loop.run(run())


def test_the_same_text_as_one_engine(
    engine: ReplicatedEngine, loop: asyncio.Runner, artifact: Path
) -> None:
    from ingot.runtime.engine import Engine

    async def collect() -> list[int]:
        chunks: AsyncIterator[Chunk] = engine.stream([3, 1, 4, 1, 5], LONG)
        return [token async for chunk in chunks for token in chunk.token_ids]

    with Engine(artifact, num_pages=16) as alone:
        assert loop.run(collect()) == list(alone.generate([3, 1, 4, 1, 5], LONG)[0].token_ids)


def test_leaving_the_loop_aborts(engine: ReplicatedEngine, loop: asyncio.Runner) -> None:
    async def run() -> None:
        stream = engine.stream([5] * 10, SamplingParams(max_tokens=240, ignore_eos=True))
        await anext(stream)
        await stream.aclose()
        await until(lambda: engine.stats().num_running == 0)
        assert engine.stats().num_used_pages == 0

    loop.run(run())


def test_bad_requests_are_refused_here(engine: ReplicatedEngine, loop: asyncio.Runner) -> None:
    with pytest.raises(RequestError, match="the model's context holds 256"):
        loop.run(read(engine, [1] * 300, LONG))
    with pytest.raises(RequestError, match="the prompt is empty"):
        loop.run(read(engine, [], LONG))


def test_a_dead_replica_is_replaced(engine: ReplicatedEngine, loop: asyncio.Runner) -> None:
    def engines() -> list[psutil.Process]:
        found = []
        for process in psutil.Process().children(recursive=True):
            if "ingot.runtime.engine_process" in " ".join(process.cmdline()):
                found.append(process)
        return found

    async def run() -> None:
        victims = engines()
        assert len(victims) == 2
        names = set(engine._reports)
        for victim in victims:
            victim.kill()
        with pytest.raises(EngineDead):
            await read(engine, [7] * 20, LONG)
        await until(lambda: len(set(engine._reports) - names) == 2)
        assert (await read(engine, [7] * 20, LONG)).finish_reason == "length"

    loop.run(run())


def test_close_ends_what_runs(engine: ReplicatedEngine, loop: asyncio.Runner) -> None:
    async def run() -> None:
        stream = engine.stream([4] * 20, SamplingParams(max_tokens=200, ignore_eos=True, n=60))
        await anext(stream)
        reading = asyncio.create_task(anext_until_error(stream))
        await engine.close()
        assert "the engine is closed" in str(await reading)

    loop.run(run())


async def anext_until_error(stream: AsyncIterator[Chunk]) -> EngineDead | None:
    try:
        async for _ in stream:
            pass
    except EngineDead as error:
        return error
    return None


def test_replicas_come_and_go_with_the_load(artifact: Path, loop: asyncio.Runner) -> None:
    async def run() -> None:
        scale = Scale(1, 2, target_requests=2.0, up_after_s=0.5, down_after_s=1.0)
        engine = await start_replicas(scale)(artifact, num_threads=1, num_pages=64)
        try:
            await until(lambda: engine.num_replicas == 1)
            is_loaded = True

            async def ask(first: int) -> int:
                num_answers = 0
                while is_loaded:
                    answer = await read(engine, [first] * 20, LONG)
                    assert answer.finish_reason == "length"
                    num_answers += 1
                return num_answers

            clients = [asyncio.create_task(ask(first)) for first in range(1, 9)]
            await until(lambda: engine.num_replicas == 2)
            is_loaded = False
            num_answers = sum(await asyncio.gather(*clients))
            await until(lambda: engine.stats().counters.num_finished == num_answers)
            # Ray takes one away; its report grows old, and what it has done stays counted
            await until(lambda: engine.num_replicas == 1)
            assert engine.stats().counters.num_finished == num_answers
            assert (await read(engine, [7] * 20, LONG)).finish_reason == "length"
        finally:
            await engine.close()

    loop.run(run())
