"""`ingot compile` passes every option on, shows progress and prints the report."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import ingot.compile.api
from ingot.cli import app
from ingot.compile.report import CompileReport, StageReport
from ingot.errors import ProofError

Calls = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    made: Calls = []

    def compile_model(model: str, **options: Any) -> Any:
        progress = options.pop("progress")
        progress("weights", 0, 1)
        progress("weights", 7, 7)
        progress("weights", 1, 1)
        made.append((model, options))
        manifest = SimpleNamespace(
            model=SimpleNamespace(name="demo"),
            target=SimpleNamespace(name=options["target"].name),
            scheme=SimpleNamespace(name=options["quant"]),
            files=[SimpleNamespace(bytes=2_000_000)],
            proof=SimpleNamespace(
                status="proven", model_dump=lambda mode: {"status": "proven", "figures": {}}
            ),
        )
        stages = [
            StageReport("import", 1.5),
            StageReport("clean_up", 0.1, 2),
            StageReport("fuse_rope", 0.1, 0),
            StageReport("clean_up", 0.3, 5),
            StageReport("rewrite", 0.75),
            StageReport("lower", 0.25),
        ]
        report = CompileReport(stages, {"relax.add": 2})
        return SimpleNamespace(path=options["out"], manifest=manifest, report=report)

    monkeypatch.setattr(ingot.compile.api, "compile_model", compile_model)
    return made


def test_defaults(calls: Calls) -> None:
    result = CliRunner().invoke(app, ["compile", "org/name", "--target", "cpu:x86-64-v3"])
    assert result.exit_code == 0, result.output
    model, options = calls[0]
    assert model == "org/name"
    assert options["target"].name == "cpu:x86-64-v3"
    assert options["quant"] == options["target"].default_scheme
    assert options["out"] == Path("artifacts/name-cpu-x86-64-v3-w4")
    assert options["prove"] and not options["force"]
    assert (options["keep"], options["disable"]) == ({}, ())


def test_options(calls: Calls) -> None:
    words = "--keep lm_head=f16 --keep model.*=q8 --disable fuse_rope --disable merge_linears"
    more = "--target cuda --quant f32 --out here --max-context 99 --revision v1 --dump ir"
    flags = "--trust-remote-code --allow-pickle --allow-unproven --no-proof --force"
    command = ["compile", "demo", *words.split(), *more.split(), *flags.split()]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    options = calls[0][1]
    assert options.pop("target").name == "cuda:sm_90"
    assert options == {
        "quant": "f32",
        "out": Path("here"),
        "keep": {"lm_head": "f16", "model.*": "q8"},
        "disable": ("fuse_rope", "merge_linears"),
        "dump": Path("ir"),
        "max_context_tokens": 99,
        "revision": "v1",
        "trust_remote_code": True,
        "allow_pickle": True,
        "allow_unproven": True,
        "prove": False,
        "force": True,
        "cuda_compiler": "nvrtc",
    }


@pytest.mark.usefixtures("calls")
def test_report_shows_rewrites_once_below_their_stage() -> None:
    result = CliRunner().invoke(app, ["compile", "demo", "--target", "cpu:x86-64-v3"])
    table, _, fields = result.stdout.partition("\n\n")
    assert [line.split() for line in table.splitlines()] == [
        ["stage", "seconds", "matched"],
        ["import", "1.50"],
        ["rewrite", "0.75"],
        ["clean_up", "0.40", "7"],
        ["fuse_rope", "0.10", "0"],
        ["lower", "0.25"],
        ["total", "2.50"],
    ]
    assert "left to TVM  add 2\n" in fields
    assert "(2.0 MB)" in fields
    assert result.stderr.splitlines() == [
        "weights: done",
        "",
        'try: ingot run artifacts/demo-cpu-x86-64-v3-w4 "def fibonacci("',
    ]


def test_where_this_machine_cant_run_it_the_report_says_what_is_next(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_model = ingot.compile.api.compile_model

    def compile_elsewhere(model: str, **options: Any) -> Any:
        result = compile_model(model, **options)
        result.manifest.proof.status = "pending"
        result.report.pending = "this machine has no GPU"
        result.report.spilling = ["crowded_kernel", "crowded_kernel"]  # on two kinds of GPU
        return result

    monkeypatch.setattr(ingot.compile.api, "compile_model", compile_elsewhere)
    result = CliRunner().invoke(app, ["compile", "demo", "--target", "cuda", "--out", "o"])
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[-2:] == [
        "not compared with eager: this machine has no GPU",
        "next: `ingot verify o` on a machine that runs it",
    ]
    assert "spilling     crowded_kernel\n" in result.stdout


@pytest.mark.usefixtures("calls")
def test_json() -> None:
    result = CliRunner().invoke(
        app, ["compile", "demo", "--out", "o", "--json", "--target", "cuda"]
    )
    record = json.loads(result.stdout)
    assert record["path"] == "o"
    assert record["report"]["stages"][2] == {"name": "fuse_rope", "seconds": 0.1, "matched": 0}
    assert record["proof"]["status"] == "proven"


@pytest.mark.parametrize("keep", ["lm_head", "=f16", "lm_head="])
def test_malformed_keep(calls: Calls, keep: str) -> None:
    words = ["compile", "demo", "--target", "cuda", "--keep", keep]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "PATTERN=FORMAT" in result.stderr
    assert calls == []


def test_failed_proof_is_exit_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: str, **options: Any) -> None:
        raise ProofError("layer 3 departs")

    monkeypatch.setattr(ingot.compile.api, "compile_model", fail)
    result = CliRunner().invoke(app, ["compile", "demo", "--target", "cuda"])
    assert result.exit_code == 1
    assert result.stderr == "Error: layer 3 departs\n"
