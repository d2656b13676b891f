"""Turns the outcomes of a backend's processes into its part of the report."""

from collections.abc import Sequence

from ingot.bench.backends.base import GenerationTimes
from ingot.bench.prompts import Case
from ingot.bench.report import Agreement, BackendReport, CaseReport, Sample, spread
from ingot.bench.worker import Measured, Outcome

Rows = list[tuple[int, ...]]


def summarize(
    name: str,
    prepared: Outcome,
    turns: Sequence[Outcome],
    eager: Sequence[Outcome],
    cases: Sequence[Case],
) -> BackendReport:
    """`eager`: the turns that the tokens are compared with; empty if eager wasn't run."""
    if prepared.unavailable is not None:
        return BackendReport(name, "unavailable", prepared.unavailable)
    failure = next((outcome.failed for outcome in (prepared, *turns) if outcome.failed), None)
    if failure is not None:
        return BackendReport(name, "failed", failure, prepare_s=prepared.prepare_s)
    measured = [outcome.measured for outcome in turns if outcome.measured is not None]
    reference = next((outcome.measured for outcome in eager if outcome.measured is not None), None)
    device_memory = [
        turn.peak_device_memory_bytes
        for turn in measured
        if turn.peak_device_memory_bytes is not None
    ]
    return BackendReport(
        name,
        "measured",
        prepare_s=prepared.prepare_s,
        load_s=spread([turn.load_s for turn in measured]),
        first_token_s=spread([turn.first_token_s for turn in measured]),
        warm_up_s=spread([turn.warm_up_s for turn in measured]),
        peak_memory_bytes=max(turn.peak_memory_bytes for turn in measured),
        peak_device_memory_bytes=max(device_memory, default=None),
        details=measured[0].details,
        cases=tuple(
            summarize_case(index, case, measured, reference) for index, case in enumerate(cases)
        ),
    )


def summarize_case(
    index: int, case: Case, turns: Sequence[Measured], reference: Measured | None
) -> CaseReport:
    samples = tuple(
        make_sample(number, times)
        for number, turn in enumerate(turns, start=1)
        for times in turn.generations[index]
    )
    texts = [collect_rows(turn, index) for turn in turns]
    prompt_tokens = case.batch_size * case.prompt_length
    return CaseReport(
        case=case,
        ttft_s=spread([sample.ttft_s for sample in samples]),
        tpot_s=spread([sample.tpot_s for sample in samples]),
        prefill_tokens_per_s=spread([prompt_tokens / sample.ttft_s for sample in samples]),
        decode_tokens_per_s=spread([case.batch_size / sample.tpot_s for sample in samples]),
        agreement=compare_texts(texts[0], collect_rows(reference, index)) if reference else None,
        repeatable=all(rows == texts[0] for rows in texts),
        samples=samples,
    )


def make_sample(turn: int, times: GenerationTimes) -> Sample:
    return Sample(turn, times.ttft_s, sum(times.step_times_s) / len(times.step_times_s))


def collect_rows(turn: Measured, case: int) -> Rows:
    return [row for times in turn.generations[case] for row in times.tokens]


def compare_texts(mine: Rows, reference: Rows) -> Agreement:
    equal_tokens = [
        count_equal_start(row, expected) for row, expected in zip(mine, reference, strict=True)
    ]
    return Agreement(
        num_equal_texts=sum(
            count == len(expected) for count, expected in zip(equal_tokens, reference, strict=True)
        ),
        num_texts=len(reference),
        equal_tokens_ratio=sum(equal_tokens) / sum(map(len, reference)),
    )


def count_equal_start(row: Sequence[int], expected: Sequence[int]) -> int:
    pairs = enumerate(zip(row, expected, strict=True))
    return next((index for index, (a, b) in pairs if a != b), len(expected))
