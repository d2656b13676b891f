"""`ingot run` streams text to stdout, figures to stderr, and passes on only what was given."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from ingot.cli import app
from ingot.runtime.sampling_params import SamplingParams

NOT_GIVEN = {"speculation": None, "draft": None}


def test_streams_after_the_prompt(engine: Any) -> None:
    result = CliRunner().invoke(app, ["run", "folder", "hello", "--threads", "2"])
    assert result.exit_code == 0
    assert result.stdout == "hello a b\n"
    assert result.stderr == "2 tokens in 0.15 s, the first after 0.100 s, then one every 50.0 ms\n"
    assert engine.made[0][1] == {**NOT_GIVEN, "num_threads": 2, "max_sequences": 1}
    assert engine.asked == [("hello", SamplingParams())]


def test_options_become_parameters(engine: Any) -> None:
    options = "--max-tokens 5 --temperature 0.5 --top-k 3 --top-p 0.9 --min-p 0.1 --seed 7"
    penalties = "--repetition-penalty 1.1 --presence-penalty -0.2 --frequency-penalty 0.3"
    words = [*options.split(), *penalties.split(), "--stop", "x", "--stop", "y"]
    result = CliRunner().invoke(app, ["run", "folder", "-", *words], input="from stdin")
    assert result.exit_code == 0, result.stderr
    expected = SamplingParams(
        max_tokens=5,
        temperature=0.5,
        top_k=3,
        top_p=0.9,
        min_p=0.1,
        seed=7,
        repetition_penalty=1.1,
        presence_penalty=-0.2,
        frequency_penalty=0.3,
        stop=("x", "y"),
    )
    assert engine.asked == [("from stdin", expected)]


def test_json_is_the_completion(engine: Any) -> None:
    result = CliRunner().invoke(app, ["run", "folder", "hello", "--json"])
    record = json.loads(result.stdout)
    assert record["text"] == " a b"
    assert record["finish_reason"] == "length"
    assert engine.asked[0][0] == "hello"


def test_threads_come_from_the_environment(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGOT_NUM_THREADS", "1")
    CliRunner().invoke(app, ["run", "folder", "hello"])
    assert engine.made[0][1] == {**NOT_GIVEN, "num_threads": 1, "max_sequences": 1}


@pytest.mark.parametrize("top_p", ["2", "0"])  # what typer refuses, and what the library does
def test_bad_value_is_a_usage_error(top_p: str, engine: Any) -> None:
    result = CliRunner().invoke(app, ["run", "folder", "hello", "--top-p", top_p])
    assert result.exit_code == 2
    assert engine.made == []


def test_eager_is_the_uncompiled_model(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ingot.eager.complete_eagerly",
        lambda folder, source, text, count: f" {folder.name} {source.name} {count}",
    )
    words = "run folder hello --eager demo --max-tokens 3 --temperature 0".split()
    assert CliRunner().invoke(app, words).stdout == "hello folder demo 3\n"
    record = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert record == {"text": " folder demo 3"}
    assert engine.made == []


def test_eager_refuses_to_sample(engine: Any) -> None:
    words = "run folder hello --eager demo --temperature 1".split()
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "likeliest" in result.stderr
