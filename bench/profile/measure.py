"""Steps of a case to times: of each kernel, of the virtual machine around them, of Python.

The virtual machine calls an observer before and after everything that it calls. That takes some
microseconds, so the whole step is timed without it as well, and what of the observer falls between
its two readings of the clock is measured and taken off. An observed step and one that isn't make a
pair. Only pairs whose halves met the machine alike count, so that the kernels add up to the step
where other processes slow some steps down.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ingot.bench.profile.case import Case
from ingot.bench.profile.huge_pages import share_in_huge_pages
from ingot.bench.profile.observer import LEAST_CALL, ObservedCall, Observer, call_overhead
from ingot.errors import IngotError
from ingot.runtime.artifact.artifact import Artifact
from ingot.runtime.engine import Engine
from ingot.runtime.executor import CompiledExecutor
from ingot.runtime.sampling import SamplingInputs
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.step_inputs import StepInputs

if TYPE_CHECKING:  # it needs the compiler
    from ingot.bench.limits.reader import MemoryReader

FAULT_CALLS = 3
PAIRS_S = 1.0  # short steps are timed for so long: each differs from the next more than long ones
LEAST_SECONDS = 50e-9  # the cheapest call of the virtual machine, as `ingot bench limits` finds it


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds, means over the middle half; `kernels` in the order of their calls."""

    python_s: float  # scheduling, building inputs, text: the engine with nothing to run
    step_s: float  # the compiled step as the engine calls it, unobserved
    lend_s: float  # of it: handing the inputs and the memory to compiled code
    sample_s: float
    kernels: tuple[tuple[str, float], ...]
    others: dict[str, tuple[int, float]]  # what else is called: how often, and all together
    observed_step_s: float
    repetitions: int  # pairs of steps
    threads: int
    page_faults: float  # of a step like the ones before it
    memory_reads: tuple[float, ...] = ()  # bytes/s of reads between these pairs of steps
    huge_pages: float | None = None  # share of the weights that is mapped in them, where known

    @property
    def total_s(self) -> float:
        return self.python_s + self.step_s + self.sample_s


def measure(
    artifact: Artifact,
    case: Case,
    *,
    threads: int | None,
    repetitions: int,
    reader: MemoryReader | None = None,
) -> Timings:
    """Time one case, and the reader's reads in turns with it.

    The cache holds zeros: the times of kernels don't depend on values, but they do on where these
    come from. Memory that was never written is one page of zeros again and again, which the CPU's
    cache holds, so all of it is written first.
    """
    check_profilable(artifact, case)
    manifest = artifact.manifest
    page_size = manifest.page_size_tokens
    python_s = time_python(artifact, case, repetitions)
    num_pages = case.batch * case.num_pages(page_size)
    executor, observed = (
        CompiledExecutor(artifact, num_pages=num_pages, num_threads=threads) for _ in range(2)
    )
    for each in (executor, observed):
        each.copy_pages([(page, (page + 1) % num_pages) for page in range(num_pages)])
    observer = Observer()
    observed.vm.observe(observer)
    inputs = case.inputs(page_size, manifest.step.vocab_size)
    logits = executor.step(inputs)
    pairs = max(repetitions, ceil(PAIRS_S / (2 * middle_time(lambda: executor.step(inputs), 3))))
    observed_s, unobserved_s, *reads_s = times_in_turns(
        lambda: run_observed(observed, inputs, observer),
        lambda: executor.step(inputs),
        *([] if reader is None else [reader]),
        repetitions=pairs,
    )
    kept = alike(observed_s, unobserved_s)
    memory_reads = () if reader is None else tuple(reader.num_bytes / np.array(reads_s[0])[kept])
    sampling = greedy(case.batch)
    sample_s = middle_time(lambda: executor.sample(logits, sampling), repetitions)
    function = manifest.step.functions.step
    lend_s = middle_time(lambda: executor.arguments(function, inputs), repetitions)
    timings = Timings(
        python_s=python_s,
        step_s=float(np.mean(np.array(unobserved_s)[kept])),
        lend_s=lend_s,
        sample_s=sample_s,
        kernels=(),
        others={},
        observed_step_s=float(np.mean(np.array(observed_s)[kept])),
        repetitions=pairs,
        threads=executor.vm.num_threads,
        page_faults=count_page_faults(lambda: executor.step(inputs)),
        memory_reads=memory_reads,
        huge_pages=None if manifest.target.cuda_archs else share_in_huge_pages(artifact.path),
    )
    kernels = {record.kernel for record in manifest.work}
    overheads = {name: call_overhead(args) for name, args in observer.arguments.items()}
    return split(timings, observer.calls(kept), kernels, overheads)


def check_profilable(artifact: Artifact, case: Case) -> None:
    """Raise an `IngotError` if the artifact has no such step or doesn't say what its kernels do."""
    case.check(artifact.manifest.step.max_context_tokens)
    if not artifact.manifest.work:
        raise IngotError(
            f"{artifact.path} doesn't say what its kernels do, so they can't be profiled",
            hint="compile it again with this version of Ingot",
        )


def split(
    timings: Timings, calls: list[ObservedCall], kernels: set[str], overheads: dict[str, float]
) -> Timings:
    """Sort the observed calls into the step's kernels and everything else, less the observer's
    share."""
    # The cheapest call does next to nothing: what more it seems to take is the observer's share.
    least = [call.seconds - overheads[call.name] for call in calls if call.name == LEAST_CALL]
    share = statistics.median(least) - LEAST_SECONDS if least else 0.0
    of_kernels = []
    others: dict[str, tuple[int, float]] = {}
    for call in calls:
        # No call takes no time, whatever is taken off.
        seconds = max(LEAST_SECONDS, call.seconds - overheads[call.name] - share)
        if call.name in kernels:
            of_kernels.append((call.name, seconds))
        else:
            count, total = others.get(call.name, (0, 0.0))
            others[call.name] = (count + 1, total + seconds)
    return replace(timings, kernels=tuple(of_kernels), others=others)


def count_page_faults(call: Callable[[], object]) -> float:
    """How often a call meets memory that the system has yet to give it, of a few calls."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(FAULT_CALLS):
        call()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / FAULT_CALLS


def run_observed(executor: CompiledExecutor, inputs: StepInputs, observer: Observer) -> None:
    observer.start_step()
    executor.step(inputs)


def middle_half(count: int) -> slice:
    """Of so many in order, those between the quartiles; one at least."""
    return slice(count // 4, count - count // 4)


def alike(observed_s: Sequence[float], unobserved_s: Sequence[float]) -> NDArray[np.intp]:
    """The pairs that a busy machine didn't pull apart: the middle half by how their times compare.
    What observing takes is the same in all."""
    ratios = np.array(observed_s) / np.array(unobserved_s)
    return np.argsort(ratios)[middle_half(len(ratios))]


def middle(values: Sequence[float]) -> float:
    """The mean of the middle half. Unlike medians, those of a sum's parts add up to the sum's."""
    kept = sorted(values)[middle_half(len(values))]
    return sum(kept) / len(kept)


def middle_time(call: Callable[[], object], repetitions: int) -> float:
    return middle(times_in_turns(call, repetitions=repetitions)[0])


def times_in_turns(*calls: Callable[[], object], repetitions: int) -> list[list[float]]:
    """Seconds of each, called one after the other, after a turn that isn't timed."""
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(repetitions + 1):
        for call, of_call in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            if turn:
                of_call.append(time.perf_counter() - start)
    return times


def greedy(rows: int) -> SamplingInputs:
    floats, ints = np.zeros(rows, np.float32), np.zeros(rows, np.int32)
    return SamplingInputs(floats, ints, np.ones(rows, np.float32), floats, floats)


class NothingToRun:
    """An executor for the engine whose steps take no time."""

    num_graph_misses = 0

    def step(self, inputs: StepInputs) -> None:
        return None

    def step_and_sample(self, inputs: StepInputs, sampling: SamplingInputs) -> list[int]:
        return [0] * len(sampling.temperature)


def time_python(artifact: Artifact, case: Case, repetitions: int) -> float:
    """The engine's own part of a step."""
    pages = case.batch * (case.num_pages(artifact.manifest.page_size_tokens) + repetitions)
    engine = Engine(
        artifact,
        num_pages=pages,
        max_sequences=case.batch,
        max_step_tokens=case.batch * case.context,
        executor=NothingToRun(),  # type: ignore[arg-type] # nothing asks for more of it
    )
    length = case.context if case.kind == "prefill" else max(1, case.context - repetitions)
    rng = np.random.default_rng(1)

    params = SamplingParams(max_tokens=2 * repetitions, ignore_eos=True)

    def add() -> list[int]:
        prompts = rng.integers(0, artifact.manifest.step.vocab_size, (case.batch, length))
        return [engine.add_request(prompt, params) for prompt in prompts.tolist()]

    def time_step() -> float:
        start = time.perf_counter()
        engine.step()
        return time.perf_counter() - start

    if case.kind == "decode":
        add()
        engine.step()
        return middle([time_step() for _ in range(repetitions)])
    times = []
    for _ in range(repetitions):
        requests = add()
        times.append(time_step())
        for request in requests:
            engine.abort(request)
    return middle(times)
