"""A toy model twice: compiled into an artifact once a session, and as a fake device in NumPy."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ingot.runtime.artifact import Artifact, Machine
from ingot.runtime.constraints.masks import Masks, mask_logits
from ingot.runtime.engine import Engine
from ingot.runtime.outputs import TokenLogprob
from ingot.runtime.sampling import Drawn, PenaltyInputs, SamplingInputs, Wishes, rank_rows
from ingot.runtime.step_inputs import StepInputs

BUILDER = Path(__file__).with_name("toy_artifact.py")


def load_builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("toy_artifact", BUILDER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOY = load_builder()


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    return TOY


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled artifact. Built in a process of its own: this one must not load the compiler."""
    folder = tmp_path_factory.mktemp("toy")
    subprocess.run([sys.executable, str(BUILDER), str(folder)], check=True)
    return folder


@pytest.fixture
def any_machine() -> Machine:
    return Machine("Linux", "x86_64", frozenset({"avx2", "fma", "f16c"}))


@dataclass
class FakeClock:
    """Every look at the clock takes a second."""

    now: float = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@dataclass
class FakeExecutor:
    """The toy model on a device that remembers what was written where, and what it was asked.

    Keys and values of a token depend on all tokens before it, so a slot holds its token and a hash
    of what it was written after: a page with the right tokens of another text is found out.
    """

    num_pages: int
    page_size: int
    steps: list[StepInputs] = field(default_factory=list)
    num_graph_misses: int = 0

    def __post_init__(self) -> None:
        self.pool = np.full((self.num_pages, self.page_size), -1)
        self.history = np.zeros((self.num_pages, self.page_size), np.int64)

    def step(self, inputs: StepInputs) -> np.ndarray:
        self.steps.append(inputs)
        owners = np.repeat(np.arange(len(inputs.context_lengths)), np.diff(inputs.query_offsets))
        for token, slot, position, owner in zip(
            inputs.token_ids, inputs.slots, inputs.positions, owners, strict=True
        ):
            pages = inputs.page_table[owner]
            before = 0
            if position:
                page, offset = divmod(int(position) - 1, self.page_size)
                before = self.history[pages[page], offset]
            place = divmod(int(position), self.page_size)
            mine = pages[place[0]], place[1]
            if slot >= 0:
                assert divmod(int(slot), self.page_size) == mine
                self.pool[mine] = token
                self.history[mine] = hash((int(before), int(token)))
            assert self.pool[mine] == token, "not written, and not there"
            assert self.history[mine] == hash((int(before), int(token))), "another text's page"
        return np.array([self._row(inputs, row) for row in inputs.logit_rows], np.float32)

    def embed(self, inputs: StepInputs) -> np.ndarray:
        return self.step(inputs)  # the toy model has no head

    def step_and_sample(self, inputs: StepInputs, sampling: SamplingInputs) -> list[int]:
        return self.sample(self.step(inputs), sampling)

    def step_captured(
        self, inputs: StepInputs, sampling: SamplingInputs, wishes: Wishes
    ) -> Drawn | None:
        return None

    def _row(self, inputs: StepInputs, row: int) -> np.ndarray:
        sequence = int(np.searchsorted(inputs.query_offsets, row, side="right")) - 1
        length = int(inputs.positions[row]) + 1
        assert length <= inputs.context_lengths[sequence]
        pages = inputs.page_table[sequence]
        context = self.pool[pages].reshape(-1)[:length]
        assert (context >= 0).all(), "reads a slot that was never written"
        history = 0
        for token, known in zip(context, self.history[pages].reshape(-1), strict=False):
            history = hash((history, int(token)))
            assert history == known, "another text's page"
        return np.asarray(TOY.toy_logits(context.tolist()))

    def copy_pages(self, copies: Sequence[tuple[int, int]]) -> None:
        for source, destination in copies:
            self.pool[destination] = self.pool[source]
            self.history[destination] = self.history[source]

    def keep(self, logits: np.ndarray, wishes: Wishes) -> np.ndarray:
        return logits[wishes.asked_rows]

    def rank(
        self, kept: np.ndarray, tokens: Sequence[int], wishes: Wishes
    ) -> list[TokenLogprob | None]:
        return rank_rows(kept, tokens, wishes)

    def penalize(self, logits: np.ndarray, inputs: PenaltyInputs) -> None:
        for row in range(len(logits)):
            for i in range(inputs.row_offsets[row], inputs.row_offsets[row + 1]):
                value = logits[row, inputs.tokens[i]]
                if inputs.seen[i]:
                    by = inputs.repetition[row]
                    value = value / by if value > 0 else value * by
                value -= inputs.presence[row] * (inputs.output_counts[i] > 0)
                value -= inputs.frequency[row] * inputs.output_counts[i]
                logits[row, inputs.tokens[i]] = value + inputs.bias[i]

    def mask(self, logits: np.ndarray, masks: Masks) -> None:
        mask_logits(logits, masks)

    def sample(self, logits: np.ndarray, inputs: SamplingInputs) -> list[int]:
        tokens = []
        for row, scores in enumerate(logits.astype(np.float64)):
            if inputs.temperature[row] == 0:
                tokens.append(int(scores.argmax()))
                continue
            order = np.argsort(-scores, kind="stable")
            heat = np.exp((scores[order] - scores.max()) / inputs.temperature[row])
            if inputs.top_k[row]:
                heat[inputs.top_k[row] :] = 0
            heat[heat < inputs.min_p[row]] = 0
            share = heat / heat.sum()
            share[np.cumsum(share) - share >= inputs.top_p[row]] = 0
            bounds = np.cumsum(share / share.sum())
            tokens.append(int(order[np.searchsorted(bounds, inputs.uniform[row], side="right")]))
        return tokens


@dataclass
class Rig:
    """An engine on the fake device."""

    engine: Engine
    executor: FakeExecutor

    @property
    def core(self) -> Any:
        return self.engine._core


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Makes engines; at the end of the test each is idle and sound."""
    rigs: list[Rig] = []

    def make(num_pages: int = 32, page_size: int = 4, **options: Any) -> Rig:
        target = {**TOY.toy_manifest().target.model_dump(), "page_size_tokens": page_size}
        TOY.write_tokenizer(tmp_path)
        artifact = Artifact(tmp_path, TOY.toy_manifest(target=target), ())
        executor = FakeExecutor(num_pages, page_size)
        engine = Engine(
            artifact, num_pages=num_pages, executor=executor, clock=FakeClock(), **options
        )
        rigs.append(Rig(engine, executor))
        return rigs[-1]

    yield make
    for rig in rigs:
        if rig.core is not None:
            rig.core.check_integrity()
            rig.engine.close()
