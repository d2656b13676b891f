"""Servers in turns under one load: how they start, what is measured, what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ingot.bench.servers import __main__ as servers
from ingot.bench.servers.start import Slots, command, running
from ingot.errors import UsageError

SLOTS = Slots(count=4, context=64, threads=1)


def test_a_server_has_as_many_places_as_clients() -> None:
    ours = command("ingot", "a", None, SLOTS, 9000)
    assert ours[:5] == [sys.executable, "-m", "ingot.cli", "serve", "a"]
    assert ours[-4:] == ["--threads", "1", "--max-sequences", "4"]
    theirs = " ".join(command("llama.cpp", "a.gguf", "b/llama-server", SLOTS, 9000))
    assert theirs.startswith("b/llama-server --model a.gguf --host 127.0.0.1 --port 9000")
    assert "--parallel 4 --ctx-size 256" in theirs


def test_our_server_is_loaded_and_reported(
    tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report.json"
    monkeypatch.setattr(sys, "argv", ["servers", "ingot=x"])
    servers.main(
        [f"ingot={tiny_artifact}"],
        clients=3,
        requests=5,
        prompt_tokens=9,
        output_tokens=4,
        token_ids=40,
        threads=1,
        out=out,
    )
    report = json.loads(out.read_text())
    first, second = report["runs"]["ingot"]
    assert first["num_done"] == second["num_done"] == 5
    assert first["load"]["concurrency"] == 3
    assert first["server_command"] != second["server_command"]  # a port of its own
    (row,) = report["summaries"]
    assert row["first_is_times"] == 1.0 and row["output_tokens_per_s"] > 0


def test_medians_are_compared_with_the_first() -> None:
    def rates(*values: float) -> list[dict[str, float]]:
        return [{"output_tokens_per_s": value} for value in values]

    ours, theirs = servers.summarize({"ingot": rates(80, 120), "eager": rates(12.5, 12.5)})
    assert (ours["first_is_times"], theirs["first_is_times"]) == (1.0, 8.0)


@pytest.mark.parametrize("text", ["vllm=model", "ingot"])
def test_only_names_with_a_path(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not NAME=PATH; names are ingot, llama\.cpp, eager"):
        servers.parse_pairs([text])


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"^ingot did not start: .*ingot compile"),
        running("ingot", str(tmp_path), None, SLOTS, tmp_path / "log"),
    ):
        pass


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="no/llama-server can't be run"),
        running("llama.cpp", "a", "no/llama-server", SLOTS, tmp_path / "log"),
    ):
        pass


def test_a_server_that_does_not_come_up_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "sleepy"
    program.write_text("#!/bin/sh\necho reading the model\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr("ingot.bench.servers.start.START_LIMIT_S", 0.5)
    with (
        pytest.raises(
            UsageError, match=r"not ready within 0\.5 s; it said last: reading the model"
        ),
        running("llama.cpp", "a", str(program), SLOTS, tmp_path / "log"),
    ):
        pass
