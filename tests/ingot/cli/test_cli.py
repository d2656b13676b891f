"""The frame around the verbs: help, errors, exit status, logs and the written documentation."""

import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import NoReturn

import pytest
from typer.testing import CliRunner

from ingot.cli import app, targets
from ingot.cli.docs import write_docs
from ingot.errors import ModelError, UsageError
from ingot.targets import Cpu, load_targets

ROOT = Path(__file__).resolve().parents[3]


def test_help_shows_commands_to_paste() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert "ingot compile demo" in result.stdout
    assert result.stdout.index("ingot run") < result.stdout.index("Options:")


def test_help_imports_no_library() -> None:
    code = (
        "import sys\n"
        "from ingot.cli import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "heavy = ('torch', 'numpy', 'rich', 'pydantic', 'ingot.runtime.engine', 'ingot.compile')\n"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stderr.strip() == "[]"


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"ingot {metadata.version('ingot')}\n")


def test_no_arguments_is_a_usage_error_with_help() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    assert "Usage:" in result.output


def test_misspelt_verb_gets_a_suggestion() -> None:
    result = CliRunner().invoke(app, ["targts"])
    assert result.exit_code == 2
    assert "Did you mean 'targets'?" in result.stderr


@pytest.mark.parametrize(("error", "status"), [(ModelError, 1), (UsageError, 2)])
def test_our_errors_are_one_message(
    error: type[Exception], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> NoReturn:
        raise error("there is no model 'x'", "try demo")

    monkeypatch.setattr("ingot.targets.load_targets", fail)
    result = CliRunner().invoke(app, ["targets"])
    assert result.exit_code == status
    assert result.stdout == ""
    assert result.stderr == "Error: there is no model 'x'\n\nhint: try demo\n"


@pytest.mark.parametrize(("package", "extra"), [("torch", "compile"), ("matplotlib", "bench")])
def test_missing_extra_is_named(package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> NoReturn:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr("ingot.targets.load_targets", fail)
    result = CliRunner().invoke(app, ["targets"])
    assert result.exit_code == 1
    assert f"this needs {package}" in result.stderr
    assert f"pip install 'ingot[{extra}]'" in result.stderr


def test_our_own_missing_module_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> NoReturn:
        raise ModuleNotFoundError("No module named 'ingot.absent'", name="ingot.absent")

    monkeypatch.setattr("ingot.targets.load_targets", fail)
    assert isinstance(CliRunner().invoke(app, ["targets"]).exception, ModuleNotFoundError)


def test_a_file_that_cant_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> NoReturn:
        raise PermissionError(13, "Permission denied", "/there/report.json")

    monkeypatch.setattr("ingot.targets.load_targets", fail)
    result = CliRunner().invoke(app, ["targets"])
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: /there/report.json: Permission denied\n",
    )


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("ingot.targets.load_targets", interrupt)
    result = CliRunner().invoke(app, ["targets"])
    assert (result.exit_code, result.stderr) == (130, "Interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminated_compile_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    code = (
        "import time, ingot.cli, ingot.compile.api as api\n"
        "from ingot.compile.artifact_writer import ArtifactFolder\n"
        "def compile_model(model, *, out, force, **options):\n"
        "    with ArtifactFolder(out, force=force) as folder:\n"
        "        print(folder.path, flush=True)\n"
        "        time.sleep(60)\n"
        "api.compile_model = compile_model\n"
        "ingot.cli.main()"
    )
    arguments = ["compile", "demo", "--out", str(tmp_path / "artifact")]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        half_written = Path(process.stdout.readline().strip())
        assert half_written.is_dir()
        process.send_signal(number)
    assert process.returncode == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_wrong_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGOT_LOG", "loud")
    result = CliRunner().invoke(app, ["targets"])
    assert result.exit_code == 2
    assert "INGOT_LOG is 'loud'" in result.stderr


def test_logs_go_to_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    features = load_targets()["cpu:x86-64-v3"].features
    cpu = Cpu("Example", "x86_64", frozenset(features), 2)
    monkeypatch.setattr("ingot.targets.detect_cpu", lambda: cpu)
    monkeypatch.setenv("INGOT_LOG", "info")
    result = CliRunner().invoke(app, ["targets", "--json"])
    assert "INFO ingot.targets.resolve: target cpu:x86-64-v3" in result.stderr
    assert result.stdout.startswith("[")


def test_verbs_are_named_like_their_files() -> None:
    assert targets.targets.__module__ == "ingot.cli.targets"


def test_documentation_is_what_the_command_line_says() -> None:
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert page == write_docs(), "run: make docs"
