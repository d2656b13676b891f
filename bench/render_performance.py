"""Results in JSON to the tables of `docs/performance.md`.

`python -m ingot.bench.render_performance` is run after new results were written.

A table stands between `<!-- KIND FILE -->` and `<!-- end -->`, FILE being in `bench/results/`; what
is between them is written again from the file, and nothing else of the document is touched. FILE
may be a pattern, as `peers-1b-*.json`: a table for each file, in the order of their names.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ingot.bench.limits.table import SCALES
from ingot.errors import IngotError

MARKED = re.compile(r"<!-- (\w+) (\S+) -->\n.*?<!-- end -->", re.DOTALL)
LEAST_SHARE = 0.002  # of the step: smaller rows are left to `ingot profile`

Content = dict[str, Any]


def render_document(text: str, results: Path) -> str:
    """The document with every marked table made anew."""

    def table(match: re.Match[str]) -> str:
        kind, name = match.groups()
        if kind not in TABLES:
            raise IngotError(f"no table is called {kind!r}; tables are {', '.join(TABLES)}")
        files = sorted(results.glob(name))
        if not files:
            raise IngotError(f"the table {kind} {name} has no results: no such file in {results}")
        tables = []
        for file in files:
            try:
                content = json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise IngotError(f"the table {kind} {file.name} can't be read: {error}") from error
            tables.append(TABLES[kind](content))
        together = "\n".join(tables)
        return f"<!-- {kind} {name} -->\n\n{together}\n<!-- end -->"

    return MARKED.sub(table, text)


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Figures to the right, the first column and a last one of words to the left."""
    last = "---" if headings[-1] in ("how", "why") else "---:"
    lines = [headings, ["---", *["---:" for _ in headings[2:]], last], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def describe_run(machine: Content, threads: int, created: str) -> str:
    busy = machine["load_average"] > machine["usable_cores"]
    note = f"; busy machine, load {machine['load_average']}" if busy else ""
    features = ", ".join(machine["features"])
    return f"{machine['cpu']} ({features}), {threads} threads, {created[:10]}{note}.\n\n"


def limits_table(content: Content) -> str:
    rows = []
    for figure in content["figures"]:
        scale, unit = SCALES[figure["unit"]]
        best, median = (f"{figure[which] / scale:,.4g} {unit}" for which in ("best", "median"))
        rows.append([figure["name"], best, median, figure["how"]])
    run = describe_run(content["machine"], content["threads"], content["created"])
    return run + markdown(("limit", "best", "median", "how"), rows)


def profile_table(content: Content) -> str:
    timings, machine = content["timings"], content["machine"]
    total = timings["python_s"] + timings["step_s"] + timings["sample_s"]
    covered = sum(row["time_s"] for row in content["rows"]) / total
    rows = []
    for row in content["rows"]:
        if row["share"] < LEAST_SHARE:
            continue
        load = row["load"]
        name = f"`{row['name']}` {row['label']}".rstrip()
        rows.append(
            [
                name,
                str(row["calls"]),
                f"{row['time_s'] * 1e6:,.0f}",
                f"{row['share']:.1%}",
                f"{load['bytes'] / 1e6:,.1f}" if load else "",
                f"{load['operations'] / 1e6:,.0f}" if load else "",
                f"{max(load['memory_s'], load['compute_s']) * 1e6:,.0f}" if load else "",
                f"{row['achieved']:.0%}" if row["achieved"] is not None else "",
                row["why"],
            ]
        )
    case = content["case"]
    what = f"prefill of {case['tokens']}" if case["kind"] == "prefill" else "decode"
    title = (
        f"{content['model']} in `{content['scheme']}`, {what}, batch {case['batch']}, context "
        f"{case['context']}: **{total * 1e3:,.3g} ms** a step; the rows add up to {covered:.1%}. "
    )
    run = describe_run(machine, timings["threads"], content["created"])
    headings = ("where", "calls", "µs", "step", "MB", "Mop", "limit µs", "reached", "why")
    return title + run + markdown(headings, rows)


def compare_table(content: Content) -> str:
    settings = content["settings"]
    predicted = {
        (p["case"]["prompt_length"], p["case"]["batch_size"]): p
        for p in content.get("predictions", ())
    }
    rows = []
    for backend in content["backends"]:
        for case in backend["cases"]:
            which = (case["case"]["prompt_length"], case["case"]["batch_size"])
            limit = predicted.get(which) if backend["name"] == "compiled" else None
            cells = [f"`{backend['name']}`", *map(str, which)]
            for figure in ("ttft_s", "tpot_s"):
                cells.append(f"{case[figure]['median'] * 1e3:,.3g}")
                cells.append(f"{limit[figure] * 1e3:,.3g}" if limit else "")
            cells.append(f"{case['decode_tokens_per_s']['median']:,.1f}")
            rows.append(cells)
    run = describe_run(content["machine"], settings["threads"], content["created"])
    title = (
        f"{settings['model']}, compiled in `{settings['quant']}`, others in {settings['dtype']}. "
    )
    headings = (
        "backend",
        "prompt",
        "batch",
        "TTFT ms",
        "at the limits",
        "TPOT ms",
        "at the limits",
        "decode tokens/s",
    )
    return title + run + markdown(headings, rows)


def peers_table(content: Content) -> str:
    """Each engine's rates, and in brackets how many times as fast ours is."""
    ours = {
        tuple(r["case"].values()): r
        for r in content["summaries"]
        if r["engine"].partition("/")[0] == "ingot"
    }
    rows = []
    for row in content["summaries"]:
        case, best = row["case"], ours[tuple(row["case"].values())]
        cells = [f"`{row['engine']}`", str(case["prompt"]), str(case["batch"])]
        for figure in ("prefill_tokens_per_s", "decode_tokens_per_s"):
            cells.append(f"{row[figure]:,.0f} ({best[figure] / row[figure]:.2f})")
        cells += [f"{row['start_to_first_token_s']:.1f}", f"{row['peak_memory_mb']:,.0f}"]
        rows.append(cells)
    title = f"**{content['title']}.** " if content.get("title") else ""
    versions = sorted(
        {
            f"{run['engine'].partition('/')[0]} {run['version'].split()[-1]}"
            for run in content["runs"]
        }
    )
    threads = content["threads"]
    run = describe_run(content["machine"], threads, content["created"])
    headings = ("engine", "prompt", "batch", "prefill tokens/s", "decode tokens/s", "start s", "MB")
    return f"{title}{', '.join(versions)}. " + run + markdown(headings, rows)


def divergence_table(content: Content) -> str:
    rows = []
    for form in content["forms"]:
        mean = f"{form['mean']:.5f} ± {form['standard_error']:.5f}"
        figures = [f"{form[name]:.5f}" for name in ("median", "p99")]
        rest = [f"{form['same_top_token']:.1%}", f"{form['perplexity']:.3f}"]
        rows.append([f"`{form['form']}`", mean, *figures, *rest])
    text = f"{content['windows']} windows of {content['tokens']} tokens. "
    run = describe_run(content["machine"], content["threads"], content["created"])
    headings = ("form", "KL, mean", "median", "99th percentile", "same top token", "perplexity")
    return text + run + markdown(headings, rows)


TABLES: dict[str, Callable[[Content], str]] = {
    "limits": limits_table,
    "profile": profile_table,
    "compare": compare_table,
    "peers": peers_table,
    "divergence": divergence_table,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--document", type=Path, default=Path("docs/performance.md"))
    parser.add_argument("--results", type=Path, default=Path("bench/results"))
    arguments = parser.parse_args()
    text = arguments.document.read_text(encoding="utf-8")
    arguments.document.write_text(render_document(text, arguments.results), encoding="utf-8")


if __name__ == "__main__":
    main()
