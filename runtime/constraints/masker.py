"""Turns the rows of a step into masks, for the outputs that have a form to keep."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import TYPE_CHECKING

from ingot.errors import RequestError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ingot.runtime.constraints.kinds import Constraint
    from ingot.runtime.constraints.masks import MaskMaker, Masks
    from ingot.runtime.constraints.matcher import GrammarCompiler, Matcher
    from ingot.runtime.sampling import LogitRow


class Masker:
    """Computes in a thread while the step runs. Nothing is loaded before the first constraint, if
    `prepare` was not called."""

    def __init__(self, tokenizer_file: Path, vocab_size: int, end_token_ids: Seq[int]) -> None:
        self._tokenizer_file = tokenizer_file
        self._vocab_size = vocab_size
        self._end_token_ids = end_token_ids
        self._compiler: GrammarCompiler | None = None
        self._maker: MaskMaker | None = None
        self._pending: Future[Masks] | None = None

    def prepare(self) -> None:
        """Read the vocabulary now, so that no step waits for it. Raises RequestError if the model's
        outputs can't be constrained, IngotError without llguidance."""
        self._open_compiler().prepare()

    def compile_ahead(self, constraint: Constraint) -> None:
        """Compile what `compile` will be asked for. For another thread; raises as that does."""
        self._open_compiler().compile(constraint)

    def compile(self, constraint: Constraint) -> Matcher:
        """A matcher for one output; `copy` it for others. Raises RequestError."""
        compiler = self._open_compiler()
        matcher = compiler.compile(constraint)
        if self._maker is None:
            from ingot.runtime.constraints.masks import MaskMaker

            self._maker = MaskMaker(compiler.num_words)
        return matcher

    def _open_compiler(self) -> GrammarCompiler:
        if self._compiler is None:
            from ingot.runtime.constraints.matcher import GrammarCompiler

            if not self._tokenizer_file.exists():
                raise RequestError(
                    "the artifact has no tokenizer, so its output can't be constrained"
                )
            text = self._tokenizer_file.read_text(encoding="utf-8")
            self._compiler = GrammarCompiler(text, self._vocab_size, self._end_token_ids)
        return self._compiler

    def start(self, rows: Seq[LogitRow]) -> None:
        """Begin to compute masks; the step runs meanwhile. Rows of one sequence that follow each
        other are the places before, between and after its proposed tokens."""
        if self._maker is None:
            assert not any(row[0].matcher for row in rows), "a matcher from elsewhere"
            return
        from ingot.runtime.constraints.masks import MaskRequest

        requests = []
        for place, (sequence, num_proposed, prompt_token) in enumerate(rows):
            if sequence.matcher is None or prompt_token is not None or num_proposed:
                continue
            end = place + 1
            while end < len(rows) and rows[end][:2] == (sequence, end - place):
                end += 1
            drafts = sequence.proposed[: end - place - 1]
            requests.append(MaskRequest(sequence.matcher, place, drafts))
        if requests:
            self._pending = self._maker.start(requests)

    def take(self) -> Callable[[], Masks] | None:
        """What waits for the masks that `start` began; None where no row has one."""
        pending, self._pending = self._pending, None
        return None if pending is None else pending.result

    def close(self) -> None:
        if self._maker is not None:
            self._maker.close()
