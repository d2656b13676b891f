"""Results in JSON to the tables of the README and of `docs/performance.md`.

`python -m ingot.bench.render_performance` is run after new results were written.

A table stands between `<!-- KIND FILE -->` and `<!-- end -->`, FILE being in `bench/results/`; what
is between them is written again from the file, and nothing else of the document is touched. There
may be several FILEs, and each may be a pattern such as `peers-1b-*.json`.
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

DOCUMENTS = (Path("README.md"), Path("docs/performance.md"))
MARKED = re.compile(r"<!-- (\w+) ([^\n]+) -->\n.*?<!-- end -->", re.DOTALL)
LEAST_SHARE = 0.002  # of the step: smaller rows are left to `ingot profile`

Content = dict[str, Any]


def render_document(text: str, results: Path) -> str:
    """The document with every marked table made anew."""

    def table(match: re.Match[str]) -> str:
        kind, names = match.groups()
        if kind not in TABLES:
            raise IngotError(f"no table is called {kind!r}; tables are {', '.join(TABLES)}")
        contents = [content for name in names.split() for content in read_results(results, name)]
        return f"<!-- {kind} {names} -->\n\n{TABLES[kind](contents)}\n<!-- end -->"

    return MARKED.sub(table, text)


def read_results(results: Path, pattern: str) -> list[Content]:
    """What the files of this name, or of these names, hold, in the order of their names."""
    files = sorted(results.glob(pattern))
    if not files:
        raise IngotError(f"there are no results {pattern}: no such file in {results}")
    contents = []
    for file in files:
        try:
            contents.append(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise IngotError(f"the results {file.name} can't be read: {error}") from error
    return contents


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


def peers_table(content: Content) -> str:
    """Each engine's rates, and in brackets how many times as fast ours is."""
    rows = []
    for row in content["summaries"]:
        case, best = row["case"], ours_beside(row, content)
        cells = [f"`{row['engine']}`", str(case["prompt"]), str(case["batch"])]
        for figure in ("prefill_tokens_per_s", "decode_tokens_per_s"):
            cells.append(f"{row[figure]:,.0f} ({best[figure] / row[figure]:.2f})")
        cells += [f"{row['start_to_first_token_s']:.1f}", f"{row['peak_memory_mb']:,.0f}"]
        rows.append(cells)
    title = f"**{content['title']}.** " if content.get("title") else ""
    versions = sorted(
        {
            f"{run['engine'].partition('/')[0]} {run['version'].split()[-1].partition('-')[0]}"
            for run in content["runs"]
        }
    )
    threads = content["threads"]
    run = describe_run(content["machine"], threads, content["created"])
    headings = ("engine", "prompt", "batch", "prefill tokens/s", "decode tokens/s", "start s", "MB")
    return f"{title}{', '.join(versions)}. " + run + markdown(headings, rows)


def ours_beside(row: Content, content: Content) -> Content:
    """Our own figures in the case of `row`."""
    return next(
        other
        for other in content["summaries"]
        if other["engine"].partition("/")[0] == "ingot" and other["case"] == row["case"]
    )


def ratios_table(contents: Sequence[Content]) -> str:
    """How many times as fast as each other engine ours is, a row for each case of a report."""
    cells: dict[str, dict[str, str]] = {}
    engines: dict[str, None] = {}
    for content in contents:
        batches = {row["case"]["batch"] for row in content["summaries"]}
        for row in content["summaries"]:
            ours = ours_beside(row, content)
            if row is ours:
                continue
            figures = ("prefill_tokens_per_s", "decode_tokens_per_s")
            prefill, decode = (f"{ours[figure] / row[figure]:.1f}" for figure in figures)
            batch = f", batch {row['case']['batch']}" if len(batches) > 1 else ""
            of_row = cells.setdefault(content["title"] + batch, {})
            of_row[row["engine"]] = f"{prefill} / {decode}"
            engines[row["engine"]] = None
    rows = [[title, *(of.get(engine, "–") for engine in engines)] for title, of in cells.items()]
    return markdown(["times as fast, prompt / answer", *(f"`{e}`" for e in engines)], rows)


def served_sentences(contents: Sequence[Content]) -> str:
    """How many times the rate of each other way to serve our server's is."""
    sentences = []
    for content in contents:
        ours, *others = content["summaries"]
        assert ours["name"] == "ingot", ours
        times = [f"{row['first_is_times']:.2g} times that of `{row['name']}`" for row in others]
        clients = content["shape"]["clients"]
        sentences.append(
            f"With {clients} clients at once, the rate at which Ingot's server generates tokens is "
            f"{' and '.join(times)}.\n"
        )
    return "\n".join(sentences)


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


def each(table: Callable[[Content], str]) -> Callable[[Sequence[Content]], str]:
    """A table for each file, one below the other."""
    return lambda contents: "\n".join(map(table, contents))


TABLES: dict[str, Callable[[Sequence[Content]], str]] = {
    "limits": each(limits_table),
    "profile": each(profile_table),
    "peers": each(peers_table),
    "divergence": each(divergence_table),
    "ratios": ratios_table,
    "served": served_sentences,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--document", type=Path, action="append", help="instead of all documents")
    parser.add_argument("--results", type=Path, default=Path("bench/results"))
    arguments = parser.parse_args()
    for document in arguments.document or DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        document.write_text(render_document(text, arguments.results), encoding="utf-8")


if __name__ == "__main__":
    main()
