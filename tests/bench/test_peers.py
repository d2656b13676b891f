"""Engines in turns over one checkpoint: what is timed, what is reported, what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ingot.bench.peers import __main__ as peers
from ingot.bench.peers.engines import describe_command, engine_of, parse_pairs
from ingot.bench.peers.measure import REPEATS, make_prompts
from ingot.bench.render_performance import peers_table
from ingot.errors import UsageError


def test_no_two_prompts_begin_alike() -> None:
    prompts = [prompt for seed in range(1 + REPEATS) for prompt in make_prompts(8, 64, seed)]
    assert len({tuple(prompt[:32]) for prompt in prompts}) == len(prompts)
    assert all(10 <= token < 209 for prompt in prompts for token in prompt)


def test_our_engine_is_timed_and_reported(
    tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report.json"
    monkeypatch.setattr(sys, "argv", ["peers", "ingot=x"])
    peers.main([f"ingot={tiny_artifact}"], batch=[1, 2], prompt=16, decode=4, threads=1, out=out)
    report = json.loads(out.read_text())
    assert peers_table(report).count("| `ingot` |") == 2
    assert report["machine"]["cpu"]
    assert [run["case"]["batch"] for run in report["runs"]] == [1, 1, 2, 2]
    for run in report["runs"]:
        assert len(run["prefill_s"]) == REPEATS and len(run["decode_step_s"]) == 4
    for row in report["summaries"]:
        assert row["engine"] == "ingot"
        assert min(row["prefill_tokens_per_s"], row["decode_tokens_per_s"]) > 0
        assert 0 < row["start_to_first_token_s"] < 60
        assert row["peak_memory_mb"] > 1


def test_rates_count_all_sequences() -> None:
    run = {
        "prefill_s": [2.0, 1.0, 3.0],
        "decode_step_s": [0.5, 0.1],
        "start_to_first_token_s": 4.0,
        "peak_memory_mb": 7,
    }
    summary = peers.summarize(peers.Case(batch=2, prompt=100, decode=2), [run, run])
    assert summary["prefill_tokens_per_s"] == 100.0
    assert summary["decode_tokens_per_s"] == pytest.approx(2 / 0.3)


def test_one_engine_may_have_several_forms() -> None:
    pairs = parse_pairs(["openvino/bf16=a", "openvino/f32=b=c"], peers.MODULES)
    assert pairs == {"openvino/bf16": "a", "openvino/f32": "b=c"}
    assert {engine_of(name) for name in pairs} == {"openvino"}


def test_a_report_names_no_paths() -> None:
    command = describe_command("m", ["ingot=/a/b", "--python", "torch=/c/python", "--batch", "8"])
    assert command == "python -m m ingot=PATH --python torch=PATH --batch 8"


@pytest.mark.parametrize("engine", ["torch", "torch.compile"])
def test_torch_is_timed(engine: str, tiny_llama: Path) -> None:
    run = peers.run_once(engine, str(tiny_llama), sys.executable, peers.Case(2, 8, 3), 1, "float32")
    assert run["version"].startswith("torch ")
    assert len(run["decode_step_s"]) == 3


@pytest.mark.parametrize("text", ["vllm=model", "ingot"])
def test_only_engines_with_a_path(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not ENGINE=PATH; engines are ingot, llama\.cpp"):
        parse_pairs([text], peers.MODULES)


def test_a_failing_engine_says_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^ingot failed: .*manifest"):
        peers.run_once("ingot", str(tmp_path), sys.executable, peers.Case(1, 8, 1), 1)
