"""`ingot chat`: lines from the terminal to a conversation with an artifact, streamed.

Questions and hints go to stderr and answers to stdout, so that a piped conversation is clean.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ingot.cli.options import Artifact, Draft, Speculate, Threads
from ingot.cli.sampling import takes_sampling

if TYPE_CHECKING:
    from ingot.runtime import Engine, SamplingParams

HELP = "/reset forgets the conversation, /system TEXT sets the instructions, /exit leaves"


class Conversation:
    """The messages so far. What `ask` could not answer is not kept."""

    def __init__(self, engine: Engine, params: SamplingParams, system: str = "") -> None:
        self.engine = engine
        self.params = params
        self.system = system
        self.turns: list[dict[str, str]] = []

    def ask(self, text: str) -> None:
        """Print the answer to `text` as it comes; Ctrl-C ends it early and keeps what came."""
        question = {"role": "user", "content": text}
        instructions = [{"role": "system", "content": self.system}] if self.system else []
        prompt = self.engine.encode_chat([*instructions, *self.turns, question])
        answer = ""
        with catch_interrupt() as interrupted:
            for chunk in self.engine.stream(prompt, self.params):
                answer += chunk.text
                print(chunk.text, end="", flush=True)
                if interrupted:
                    print(" [stopped]", end="", file=sys.stderr, flush=True)
                    break
        print(flush=True)
        self.turns += [question, {"role": "assistant", "content": answer}]


@contextmanager
def catch_interrupt() -> Iterator[list[int]]:
    """Collect the first Ctrl-C instead of raising in the middle of the engine's step.

    The second one raises, in case the first is not looked at.
    """
    caught: list[int] = []
    previous = signal.getsignal(signal.SIGINT)

    def remember(number: int, frame: object) -> None:
        caught.append(number)
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, remember)
    try:
        yield caught
    finally:
        signal.signal(signal.SIGINT, previous)


def obey(conversation: Conversation, line: str) -> bool:
    """Carry out a line that starts with a slash; False if the conversation is over."""
    command, _, argument = line.partition(" ")
    if command == "/exit":
        return False
    if command == "/reset":
        conversation.turns.clear()
    elif command == "/system":
        conversation.system = argument.strip()
        conversation.turns.clear()
    else:
        print(HELP, file=sys.stderr)
    return True


def read_line() -> str | None:
    """One line from the user; None at the end of the input or after Ctrl-C."""
    try:
        print("> ", end="", file=sys.stderr, flush=True)
        return input().strip()
    except (EOFError, KeyboardInterrupt):
        print(file=sys.stderr)
        return None


@takes_sampling
def chat(
    artifact: Artifact,
    *,
    params: SamplingParams,
    system: Annotated[
        str, typer.Option(metavar="TEXT", help="Instructions for the model.", show_default=False)
    ] = "",
    speculate: Speculate = False,
    draft: Draft = None,
    threads: Threads = None,
) -> None:
    """Talk to an artifact.

    Ctrl-C stops an answer; /reset forgets the conversation, /system TEXT sets the instructions,
    /exit leaves.
    """
    from ingot.cli.open_engine import open_engine
    from ingot.errors import RequestError

    with open_engine(artifact, speculate=speculate, draft=draft, threads=threads) as engine:
        conversation = Conversation(engine, params, system)
        print(HELP, file=sys.stderr)
        while (line := read_line()) is not None:
            if line.startswith("/"):
                if not obey(conversation, line):
                    return
            elif line:
                try:
                    conversation.ask(line)
                except RequestError as error:  # such as a conversation longer than the context
                    print(f"Error: {error}", file=sys.stderr)
