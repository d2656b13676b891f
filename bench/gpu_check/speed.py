"""An artifact to its speed, its time on the host and its memory, in a process of its own."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingot.bench.gpu_check.plan import Plan, artifact_folder
from ingot.bench.gpu_check.step_watch import watch_graphs, watch_waits
from ingot.bench.peers.measure import make_prompts
from ingot.bench.profile.case import prefill
from ingot.environment import read_variable
from ingot.runtime.artifact.artifact import load_artifact
from ingot.runtime.artifact.kv_layout import kv_pool_shapes
from ingot.runtime.artifact.manifest import Manifest
from ingot.runtime.artifact.work import evaluate
from ingot.runtime.cuda import free_device_memory_bytes
from ingot.runtime.engine import Engine
from ingot.runtime.sampling_params import SamplingParams

PREFILLS = 5
WARM_UP_STEPS = 4  # the first has a bucket captured
FIRST_PROMPT = 130  # of those that are read for their time: no other prompt begins like them
START_TOKENS = 32


def measure_start(folder: Path, of: Sequence[str], started_s: float) -> dict[str, float]:
    """Seconds since `started_s` of the monotonic clock until an engine as `ingot run` has it was
    loaded, and until its first token."""
    engine = Engine(artifact_folder(folder, of), max_sequences=1)
    loaded_s = time.monotonic()
    (prompt,) = make_prompts(1, START_TOKENS, 0)
    engine.generate([prompt], SamplingParams(max_tokens=1, temperature=0.0))
    return {"load_s": loaded_s - started_s, "first_token_s": time.monotonic() - started_s}


def measure_speed(folder: Path, of: Sequence[str], plan: Plan) -> dict[str, Any]:
    """Prefill, decode at each batch, and the memory that all of it took."""
    free_bytes = free_device_memory_bytes()  # CUDA's own is taken by now
    artifact = load_artifact(artifact_folder(folder, of))
    manifest, batches = artifact.manifest, plan.batches
    tokens = decoded_context(plan) + WARM_UP_STEPS
    pages = max(batches) * -(-tokens // manifest.page_size_tokens)
    pages = max(pages, -(-plan.prefill_tokens // manifest.page_size_tokens)) + 1
    engine = Engine(
        artifact,
        num_pages=pages,
        max_sequences=max(batches),
        max_step_tokens=max(plan.prefill_tokens, *batches),
    )
    found: dict[str, Any] = {
        "graphs": bool(read_variable("INGOT_CUDA_GRAPHS")),
        "weights_read_bytes": weights_read_bytes(manifest),
        "prefill": time_prefill(engine, plan.prefill_tokens),
        "decode": {str(batch): time_decode(engine, batch, plan) for batch in batches},
    }
    weights = sum(weight.bytes for weight in manifest.weights)
    pools = kv_pool_shapes(manifest.kv_slots, pages, manifest.page_size_tokens)
    kv = sum(math.prod(shape) * dtype.itemsize for shape, dtype in pools)
    rest = free_bytes - free_device_memory_bytes() - weights - kv
    memory = {"weights_bytes": weights, "kv_bytes": kv, "rest_bytes": rest}
    return {**found, "memory": {**memory, "rest_share": rest / (weights + kv)}}


def weights_read_bytes(manifest: Manifest) -> int:
    """What a step reads of the weights whole: all but the table of a separate embedding."""
    return sum(record.weight_bytes * len(record.calls) for record in manifest.work)


def prefill_operations(manifest: Manifest, num_tokens: int) -> int:
    """Multiplications and additions of the model for one prompt, its one row of logits included."""
    case, page = prefill(num_tokens), manifest.page_size_tokens
    return sum(
        evaluate(record.operations, case.dimensions(page, record.window)) * len(record.calls)
        for record in manifest.work
    )


def time_prefill(engine: Engine, num_tokens: int) -> dict[str, float]:
    """One prompt in one step, to its first token on the host: the median of several prompts."""
    params = SamplingParams(max_tokens=1, temperature=0.0, ignore_eos=True)
    times = []
    for number in range(1 + PREFILLS):
        (prompt,) = make_prompts(1, num_tokens, FIRST_PROMPT + number)
        started = time.perf_counter()
        engine.generate([prompt], params)
        times.append(time.perf_counter() - started)
    seconds = statistics.median(times[1:])
    operations = prefill_operations(engine.manifest, num_tokens)
    return {
        "tokens_s": num_tokens / seconds,
        "seconds": seconds,
        "tflops": operations / seconds / 1e12,
    }


def decoded_context(plan: Plan) -> int:
    """What a sequence grows to: one token in each step of a longer one's prompt, then the timed
    steps, and as many that are watched."""
    joining = -(-max(plan.batches) * plan.context_tokens // plan.prefill_tokens)
    return plan.context_tokens + joining + WARM_UP_STEPS + 2 * plan.decode_steps + 1


def time_decode(engine: Engine, batch: int, plan: Plan) -> dict[str, float | None]:
    """Steps of `batch` sequences that go on from a context: the median step, what the host did in
    it by itself, and what its graphs took on the GPU, if there are any."""
    tokens = decoded_context(plan) - plan.context_tokens + WARM_UP_STEPS
    params = SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True)
    prompts = make_prompts(batch, plan.context_tokens, 1)
    requests = [engine.add_request(prompt, params) for prompt in prompts]
    waiting = set(requests)
    while waiting:
        waiting -= {chunk.request_id for chunk in engine.step()}
    for _ in range(WARM_UP_STEPS):
        engine.step()
    steps, host = [], []
    with watch_waits() as waits:
        for _ in range(plan.decode_steps):
            started, waited = time.perf_counter(), waits.seconds
            engine.step()
            steps.append(time.perf_counter() - started)
            host.append(steps[-1] - (waits.seconds - waited))
    with watch_graphs() as launches:
        for _ in range(plan.decode_steps):
            engine.step()
        gpu_us = launches.seconds() / plan.decode_steps * 1e6 or None
    for request in requests:
        engine.abort(request)
    while engine.has_work:
        engine.step()
    step_us = statistics.median(steps) * 1e6
    return {
        "tokens_s": batch / step_us * 1e6,
        "step_us": step_us,
        "host_us": statistics.median(host) * 1e6,
        "gpu_us": gpu_us,
        "beside_gpu_us": step_us - gpu_us if gpu_us else None,
    }
