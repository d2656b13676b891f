"""Prints a report as tables for the terminal: one row a backend, then one a case and backend."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ingot.bench.machine import Machine
from ingot.bench.report import BackendReport, CaseReport, Report, Spread


def render_report(report: Report) -> RenderableType:
    """Both tables, why a backend is missing from them, and how they are to be read."""
    settings = report.settings
    reading = (
        f"{settings.threads} threads, {settings.new_tokens} new tokens, greedy; medians ± half the "
        f"interquartile range of {settings.repetitions * len(settings.turns)} generations in "
        f"{len(settings.turns)} turns. × is against eager."
    )
    reasons = [
        Text(f"{backend.name} is {backend.status}: {backend.reason}", style="yellow")
        for backend in report.backends
        if backend.status != "measured"
    ]
    return Group(
        render_backends(report),
        *reasons,
        render_cases(report),
        *render_predictions(report),
        Text(reading, style="dim"),
        *describe_disturbance(report.machine),
    )


def describe_disturbance(machine: Machine) -> list[Text]:
    """A warning if more was at work before the run than the machine has cores for."""
    if machine.load_average <= machine.usable_cores:
        return []
    warning = (
        f"The machine was busy before the run (load {machine.load_average} on "
        f"{machine.usable_cores} cores): these times are not to be trusted."
    )
    return [Text(warning, style="yellow")]


def render_backends(report: Report) -> Table:
    settings = report.settings
    title = f"{settings.model} on {report.machine.cpu}"
    if settings.device != "cpu":
        title = f"{settings.model} on {', '.join(report.machine.gpus)}"
    table = Table(title=title, title_justify="left")
    table.add_column("backend", no_wrap=True)
    table.add_column("status")
    for heading in ("prepare once", "load", "first token", "peak memory", "same text as eager"):
        table.add_column(heading, justify="right")
    for backend in report.backends:
        table.add_row(*backend_cells(backend))
    return table


def backend_cells(backend: BackendReport) -> list[str]:
    if backend.status != "measured":
        return [backend.name, backend.status]
    agreements = [case.agreement for case in backend.cases if case.agreement is not None]
    equal = sum(agreement.num_equal_texts for agreement in agreements)
    total = sum(agreement.num_texts for agreement in agreements)
    memory = f"{(backend.peak_memory_bytes or 0) / 1e6:,.0f} MB"
    if backend.peak_device_memory_bytes is not None:
        memory += f" + {backend.peak_device_memory_bytes / 1e6:,.0f} MB on the GPU"
    return [
        backend.name,
        backend.status,
        # many have nothing to prepare, which takes microseconds
        f"{backend.prepare_s:.1f} s" if (backend.prepare_s or 0.0) > 0.05 else "",
        seconds(backend.load_s),
        seconds(backend.first_token_s),
        memory,
        f"{equal} of {total}" if total else "",
    ]


def render_cases(report: Report) -> RenderableType:
    if not any(backend.cases for backend in report.backends):
        return Text("nothing was measured")
    table = Table()
    table.add_column("prompt", justify="right")
    table.add_column("batch", justify="right")
    table.add_column("backend", no_wrap=True)
    table.add_column("TTFT ms", justify="right", no_wrap=True)
    table.add_column("TPOT ms", justify="right", no_wrap=True)
    table.add_column("prefill tokens/s", justify="right")
    table.add_column("×", justify="right")
    table.add_column("decode tokens/s", justify="right")
    table.add_column("×", justify="right")
    table.add_column("tokens as eager", justify="right")
    for case in report.cases:
        for backend in report.backends:
            found = backend.find(case)
            if found is not None:
                table.add_row(*case_cells(report, backend.name, found))
        table.add_section()
    return table


def render_predictions(report: Report) -> list[RenderableType]:
    """The compiled backend beside what the machine's limits allow; nothing without limits."""
    compiled = report.backend("compiled")
    if not report.predictions or compiled is None:
        return []
    table = Table(title="Compiled beside the limits of this machine", title_justify="left")
    table.add_column("prompt", justify="right")
    table.add_column("batch", justify="right")
    for figure in ("TTFT", "TPOT"):
        for heading in (f"{figure} ms predicted", "measured", "reached"):
            table.add_column(heading, justify="right")
    for prediction in report.predictions:
        found = compiled.find(prediction.case)
        if found is None:
            continue
        cells = [str(prediction.case.prompt_length), str(prediction.case.batch_size)]
        for predicted, measured in (
            (prediction.ttft_s, found.ttft_s.median),
            (prediction.tpot_s, found.tpot_s.median),
        ):
            cells += [
                f"{predicted * 1e3:,.3g}",
                f"{measured * 1e3:,.3g}",
                f"{predicted / measured:.0%}",
            ]
        table.add_row(*cells)
    return [table]


def case_cells(report: Report, name: str, found: CaseReport) -> list[str]:
    def ratio(figure: str) -> str:
        times = report.ratio_to_eager(name, found.case, figure)
        return f"{times:.2f}" if times is not None else ""

    agreement = ""
    if found.agreement is not None:
        agreement = f"{found.agreement.equal_tokens_ratio:.0%}"
    return [
        str(found.case.prompt_length),
        str(found.case.batch_size),
        name,
        milliseconds(found.ttft_s),
        milliseconds(found.tpot_s),
        f"{found.prefill_tokens_per_s.median:,.0f}",
        ratio("prefill_tokens_per_s"),
        f"{found.decode_tokens_per_s.median:,.1f}",
        ratio("decode_tokens_per_s"),
        agreement if found.repeatable else f"{agreement} (not repeatable)",
    ]


def seconds(value: Spread | None) -> str:
    return f"{value.median:.2f} s" if value is not None else ""


def milliseconds(value: Spread) -> str:
    """The median with three digits, and the spread with as many decimals."""
    median, half_spread = value.median * 1e3, value.iqr * 5e2
    decimals = max(0, 3 - len(str(int(median)))) if median >= 1 else 3
    return f"{median:,.{decimals}f} ± {half_spread:,.{decimals}f}"
