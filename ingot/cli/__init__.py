"""The command line: parses and prints; the work is in the library.

One file a verb. Verbs import the library inside their function, so that `--help` is instant.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from ingot.cli import (
    bench,
    chat,
    compile_,
    doctor,
    env,
    inspect,
    models,
    profile,
    run,
    serve,
    targets,
    tune,
    verify,
)
from ingot.errors import IngotError, UsageError

HELP = """\b
Compile a Hugging Face language model once, then run it without torch.

\b
  ingot compile demo --target cpu --out artifacts/demo
  ingot run artifacts/demo "def fibonacci("
  ingot chat artifacts/demo
  ingot serve artifacts/demo
"""


class IngotGroup(TyperGroup):
    """Prints our own errors as one message, without a traceback: 2 for usage, else 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            from ingot.cli.logs import start_logging

            start_logging()
            return super().invoke(ctx)
        except IngotError as error:
            fail(error)
        except ModuleNotFoundError as error:
            from ingot.doctor import EXTRAS, install_hint

            if error.name not in EXTRAS:
                raise
            fail(
                IngotError(
                    f"this needs {error.name}, which is not installed", install_hint(error.name)
                )
            )
        except OSError as error:
            if error.filename is None:  # not about a file: such as a pipe that was closed
                raise
            fail(IngotError(f"{error.filename}: {error.strerror}"))
        except KeyboardInterrupt:
            print("Interrupted", file=sys.stderr)
            raise typer.Exit(130) from None


def fail(error: IngotError) -> NoReturn:
    print(f"Error: {error}", file=sys.stderr)
    raise typer.Exit(2 if isinstance(error, UsageError) else 1)


app = typer.Typer(
    cls=IngotGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"ingot {version('ingot')}")
        raise typer.Exit


@app.callback(help=HELP)
def ingot(
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options that stand before the verb."""


app.command("compile")(compile_.compile_model)
app.command("run")(run.run)
app.command("chat")(chat.chat)
app.command("serve")(serve.serve)
app.command("verify")(verify.verify)
app.command("inspect")(inspect.inspect)
app.command("profile")(profile.profile)
app.add_typer(bench.app, name="bench")
app.command("tune")(tune.tune)
app.command("models")(models.models)
app.command("targets")(targets.targets)
app.command("doctor")(doctor.doctor)
app.command("env")(env.env)


def leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)  # as a shell counts it


def main() -> None:
    # by default these end the process on the spot, and temporary folders stay behind
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup's choice stands
            signal.signal(number, leave)
    app(prog_name="ingot")
