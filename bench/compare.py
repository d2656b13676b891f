"""Measures backends on one model: a model and settings become a report.

Each turn of a backend is a process of its own, one at a time, so that none disturbs another.
The backends take turns in order and then in reverse (A B C, C B A): what drifts on the machine,
its temperature or another's work, touches the first and the last alike.
"""

import contextlib
import dataclasses
import datetime
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ingot.bench.backends import BACKENDS, check_backend_name
from ingot.bench.backends.base import Setting
from ingot.bench.machine import default_threads, describe_machine, installed_versions
from ingot.bench.prompts import Case, PromptSet, make_prompts
from ingot.bench.report import Prediction, Report, Settings, write_report
from ingot.bench.summary import summarize
from ingot.bench.turns import run_turns
from ingot.bench.worker import Job
from ingot.errors import UsageError

DTYPES = ("float32", "bfloat16", "float16")
DEVICES = ("cpu", "cuda")
Progress = Callable[[str], None]


def compare(
    model: str | Path,
    *,
    backends: Sequence[str] = tuple(BACKENDS),
    quant: str = "f32",
    dtype: str = "float32",
    device: str = "cpu",
    prompt_lengths: Sequence[int] = (16, 128),
    batch_sizes: Sequence[int] = (1, 4),
    new_tokens: int = 32,
    repetitions: int = 3,
    warm_ups: int = 1,
    threads: int | None = None,
    seed: int = 0,
    target: str | None = None,
    artifact: Path | None = None,
    trust_remote_code: bool = False,
    out: Path | None = None,
    work_folder: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure `backends` on `model` and, with `out` (a .json file), write the report and its plots.

    `model` is a Hub id, a folder, an embedded model, or an artifact made from one of these.
    `quant` is the scheme of the compiled backend, `dtype` what the others run in. An `artifact`
    is measured as it is instead of compiling. `work_folder` keeps exports, artifacts and logs.
    """
    check_choice("dtype", dtype, DTYPES)
    check_choice("device", device, DEVICES)
    for name in backends:
        check_backend_name(name)
    check_counts("prompt length", prompt_lengths, 1)
    check_counts("batch size", batch_sizes, 1)
    check_counts("number of new tokens", [new_tokens], 2)  # TPOT needs a second token
    check_counts("number of repetitions", [repetitions], 1)
    check_counts("number of warm-ups", [warm_ups], 1)
    if out is not None and out.suffix != ".json":
        raise UsageError(
            f"the report is JSON, and its plots go beside it: {out} isn't a .json file"
        )
    report_progress = progress or (lambda line: None)
    threads = threads if threads is not None else default_threads()
    check_counts("number of threads", [threads], 1)

    subject = find_subject(model, artifact, quant, trust_remote_code)
    cases = tuple(Case(length, batch) for length in prompt_lengths for batch in batch_sizes)
    prompts = make_prompts(subject.checkpoint, cases, warm_ups + repetitions, seed)
    turns = (tuple(backends), tuple(reversed(backends)))
    settings = Settings(
        model=subject.name,
        quant=subject.quant,
        dtype=dtype,
        device=device,
        threads=threads,
        prompt_lengths=tuple(prompt_lengths),
        batch_sizes=tuple(batch_sizes),
        new_tokens=new_tokens,
        repetitions=repetitions,
        warm_ups=warm_ups,
        turns=turns,
        seed=seed,
        prompt_source=prompts.source,
        prompts_sha256=prompts.sha256(),
    )
    machine = describe_machine()
    with open_work_folder(work_folder) as work:
        setting = Setting(
            model=subject.checkpoint,
            folder=work,
            dtype=dtype,
            quant=subject.quant,
            device=device,
            threads=threads,
            max_batch=max(batch_sizes),
            max_prompt_tokens=max(prompt_lengths),
            max_context_tokens=max(prompt_lengths) + new_tokens,
            target=target,
            artifact=subject.artifact,
            trust_remote_code=trust_remote_code,
        )
        jobs = {which: make_job(which, setting, settings, prompts) for which in backends}
        prepared, outcomes = run_turns(jobs, turns, report_progress)
        predictions = predict(jobs, threads, cases)

    eager = outcomes.get("eager", [])
    report = Report(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        settings=settings,
        machine=machine,
        versions=installed_versions(),
        backends=tuple(
            summarize(which, prepared[which], outcomes[which], eager, cases) for which in backends
        ),
        predictions=predictions,
    )
    if out is not None:
        from ingot.bench.plots import write_plots

        write_report(report, out)
        write_plots(report, out)
    return report


def check_choice(what: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UsageError(f"{what} {value!r} isn't one of {', '.join(allowed)}")


def check_counts(what: str, values: Sequence[int], least: int) -> None:
    if not values or min(values) < least or len(set(values)) != len(values):
        raise UsageError(f"each {what} is {least} or more, and none is given twice: {list(values)}")


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: a checkpoint and, if it is already compiled, its artifact."""

    name: str
    checkpoint: Path
    artifact: Path | None
    quant: str


def find_subject(
    model: str | Path, artifact: Path | None, quant: str, trust_remote_code: bool
) -> Subject:
    """`model` may be an artifact's folder: its manifest says which checkpoint it was made from."""
    from ingot.models.resolve import resolve_model
    from ingot.runtime.artifact.manifest import MANIFEST_NAME, read_manifest
    from ingot.source import find_source

    if artifact is None and (Path(model) / MANIFEST_NAME).is_file():
        artifact = Path(model)
    if artifact is None:
        source = resolve_model(str(model), trust_remote_code=trust_remote_code)
        return Subject(source.name, source.path, None, quant)
    manifest = read_manifest(artifact)
    source = find_source(
        manifest,
        None if artifact == Path(model) else str(model),
        hint="give that folder as the model, and the artifact with --artifact",
        trust_remote_code=trust_remote_code,
    )
    return Subject(source.name, source.path, artifact.resolve(), manifest.scheme.name)


@contextlib.contextmanager
def open_work_folder(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="ingot-bench-") as temporary:
            yield Path(temporary)


def predict(jobs: Mapping[str, Job], threads: int, cases: Sequence[Case]) -> tuple[Prediction, ...]:
    """What the limits of this machine, if they were measured, allow the compiled backend."""
    from ingot.bench.backends.compiled import artifact_of
    from ingot.bench.forecast import forecast_times
    from ingot.bench.limits.record import stored_limits
    from ingot.runtime.artifact.manifest import MANIFEST_NAME, read_manifest

    limits = stored_limits(threads)
    if limits is None or "compiled" not in jobs:
        return ()
    artifact = artifact_of(jobs["compiled"].setting)
    if not (artifact / MANIFEST_NAME).is_file():  # it couldn't be compiled
        return ()
    manifest = read_manifest(artifact)
    if manifest.target.kind != "cpu" or not manifest.work:
        return ()
    found = []
    for case in cases:
        # The backend reads a batch's prompts in one step, and its texts grow from there.
        tokens = case.prompt_length * case.batch_size
        times = forecast_times(manifest, limits, case.prompt_length, case.batch_size, tokens)
        found.append(Prediction(case, times.ttft_s, times.tpot_s))
    return tuple(found)


def make_job(name: str, setting: Setting, settings: Settings, prompts: PromptSet) -> Job:
    """The measuring job of a backend, its folder made."""
    folder = setting.folder / name.replace(":", "-")
    folder.mkdir(exist_ok=True)
    return Job(
        kind="measure",
        backend=name,
        setting=dataclasses.replace(setting, folder=folder),
        started=0.0,  # set when its process is
        new_tokens=settings.new_tokens,
        warm_ups=settings.warm_ups,
        cases=tuple(
            [[list(row) for row in batch] for batch in batches]
            for batches in prompts.batches.values()
        ),
    )
