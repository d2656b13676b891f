"""The contract of a backend: from a model folder and a setting to timed greedy tokens.

A backend lives in a process of its own (bench/worker.py) and is called in this order:
`availability`, then `prepare` in one process; `load`, `generate`..., `close` in others.
"""

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Tokens = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything that a backend may depend on, the same for all of them."""

    model: Path  # a folder in Hugging Face's layout
    folder: Path  # this backend's own, kept between its processes
    dtype: str = "float32"  # of the uncompiled backends
    quant: str = "f32"  # scheme of the compiled backend
    device: str = "cpu"
    threads: int = 1
    max_batch: int = 1
    max_prompt_tokens: int = 1
    max_context_tokens: int = 2  # longest prompt and its new tokens
    target: str | None = None  # of the compiled backend; None: what fits this machine
    artifact: Path | None = None  # of the compiled backend; None: compile the model
    trust_remote_code: bool = False
    # Of the uncompiled backends: the folder has no weights, only their sizes.
    random_weights: bool = False


@dataclass(frozen=True, slots=True)
class GenerationTimes:
    """One batch, generated greedily to its full length, the end-of-text token ignored.

    `ttft_s`: from the call to the first token of every sequence on the host. `step_times_s`:
    one entry for each further token. `tokens`: the new tokens of each sequence.
    """

    ttft_s: float
    step_times_s: tuple[float, ...]
    tokens: tuple[tuple[int, ...], ...]


class Backend(Protocol):
    name: str

    def availability(self, setting: Setting) -> str | None:
        """None, or why this backend can't run here: a sentence for the table."""

    def prepare(self, setting: Setting) -> None:
        """Make, once, what `load` needs, in `setting.folder`: an export, an artifact."""

    def load(self, setting: Setting) -> None: ...

    def generate(self, prompts: Tokens, max_new_tokens: int) -> GenerationTimes:
        """Prompts are of one length; every sequence gets exactly `max_new_tokens`."""

    def describe(self) -> dict[str, str]:
        """What was run, for the report; valid after `load`."""

    def close(self) -> None: ...


@dataclass(slots=True)
class StepTimer:
    """Times one generation: call `step` for every token of the batch, then `finish`."""

    clock: Callable[[], float] = time.perf_counter
    _last: float = 0.0
    _times: list[float] = field(default_factory=list)
    _columns: list[list[int]] = field(default_factory=list)

    def start(self) -> None:
        self._last = self.clock()

    def step(self, tokens: list[int]) -> None:
        """`tokens`: the new token of each sequence, already on the host."""
        now = self.clock()
        self._times.append(now - self._last)
        self._columns.append(tokens)
        self._last = now

    def finish(self) -> GenerationTimes:
        rows = tuple(zip(*self._columns, strict=True))
        return GenerationTimes(self._times[0], tuple(self._times[1:]), rows)


def missing_package(*names: str) -> str | None:
    """The sentence for the table if one of these packages isn't installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            return f"{name} isn't installed"
    return None
