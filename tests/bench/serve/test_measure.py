"""`ingot bench serve` from its command line, against a server with known times."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ingot.bench.serve.lengths import parse_lengths
from ingot.bench.serve.measure import ServeOptions, measure
from ingot.bench.serve.report import Slo
from ingot.bench.serve.workload import Workload
from ingot.cli import app
from ingot.errors import UsageError
from tests.bench.serve.conftest import FakeServer


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["bench", "serve", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_levels_are_measured_and_written(fake: FakeServer, tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    sizes = ("--prompt-tokens", "30", "--output-tokens", "5", "--requests", "6")
    levels = ("--concurrency", "1", "--concurrency", "3", "--rate", "60")
    text = run(fake.url, *sizes, *levels, "--cancel", "0.3", "--out", str(out))
    assert "1 client" in text and "3 clients" in text and "60 requests/s" in text
    report = json.loads(out.read_text())
    assert out.with_suffix(".png").exists()
    assert [level["num_failed"] for level in report["levels"]] == [0, 0, 0]
    for level in report["levels"]:
        assert level["num_done"] + level["num_cancelled"] == 6
        assert level["ttft_s"]["p50"] >= fake.first_token_s
    assert report["settings"]["words_per_token"] == 1.0
    # two to calibrate, two to warm up, six a level; no prompt twice
    prompts = [body["prompt"] for body in fake.bodies]
    assert len(prompts) == len(set(prompts)) == 2 + 2 + 3 * 6
    assert {len(prompt.split()) for prompt in prompts[2:]} == {30}
    assert fake.bodies[-1]["ignore_eos"] is True and fake.bodies[-1]["temperature"] == 0


def test_goodput_falls_with_a_tight_slo(fake: FakeServer) -> None:
    common = (fake.url, "--requests", "5", "--concurrency", "2", "--json", "--output-tokens", "3")
    loose = json.loads(run(*common))["levels"][0]
    tight = json.loads(run(*common, "--slo-ttft-ms", "1"))["levels"][0]
    assert loose["good_share"] == 1.0 and tight["good_share"] == 0.0
    assert tight["requests_per_s"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"url": "localhost:8000"}, "begins with http"), ({"out": Path("a.txt")}, "isn't .json")],
)
def test_mistakes_are_said(changes: dict[str, object], message: str) -> None:
    workload = Workload(parse_lengths("1"), parse_lengths("1"))
    options = ServeOptions(str(changes.pop("url", "http://x")), workload, (), Slo(1, 1))
    with pytest.raises(UsageError, match=message):
        measure(options, **changes)  # type: ignore[arg-type]
