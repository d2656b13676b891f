"""Turns a constraint and a vocabulary into the tokens that may come next, by llguidance."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.errors import IngotError, RequestError
from ingot.runtime.constraints.kinds import (
    Choice,
    Constraint,
    Grammar,
    JsonObject,
    JsonSchema,
    Regex,
)

Bits = NDArray[np.int32]  # one bit a token, the lowest bit first

# Between JSON's tokens: nothing, a blank, or a line break with an indentation. Any amount of it,
# as the standard allows, lets a weak model write blanks for ever.
JSON_OPTIONS = {"whitespace_pattern": r"(\n[ \t]{0,32}| )?"}

# Bounds on what one grammar may cost. The compiler's fuel runs at about 50 thousand units a
# millisecond and that of one mask at 14 thousand (llguidance's figures): 20 ms and 15 ms.
LIMITS = {
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_items_in_row": 2_000,
    "max_lexer_states": 50_000,  # 1 to 2 kB each
    "max_grammar_size": 200_000,
    "verbose_errors": False,
}
MAX_COMPILED = 64  # grammars kept for the next request that has the same
MAX_ERROR_CHARACTERS = 300

_WHAT = {
    JsonSchema: "the JSON schema",
    JsonObject: "the JSON object",
    Regex: "the pattern",
    Choice: "the choice",
    Grammar: "the grammar",
}


def num_words(vocab_size: int) -> int:
    """How many 32-bit words hold a bit for each token."""
    return -(-vocab_size // 32)


@dataclass(frozen=True, slots=True)
class Matcher:
    """The place in a constraint that one output has come to."""

    backend: Any
    what: str

    @property
    def is_done(self) -> bool:
        """Whether nothing may follow."""
        return bool(self.backend.is_stopped())

    @property
    def is_accepting(self) -> bool:
        """Whether the output may end here."""
        return bool(self.backend.is_accepting())

    def advance(self, token: int, *, is_end: bool = False) -> None:
        """Take the token that was chosen. Raises RequestError if it, or the mask that it was chosen
        by, went beyond a limit; an end token is no part of the form."""
        if not is_end:
            self.backend.consume_token(token)
        if self.backend.is_error():
            raise RequestError(f"{self.what} can't go on: {_sentence(self.backend.get_error())}")

    def count_allowed(self, tokens: Sequence[int]) -> int:
        """How many of these tokens could follow, one after the other. Changes nothing."""
        return int(self.backend.validate_tokens(list(tokens)))

    def forced_tokens(self) -> list[int]:
        """Tokens of the only text that may follow here; empty if there is a choice."""
        return list(self.backend.compute_ff_tokens())

    def copy(self) -> Matcher:
        """A second matcher at the same place, for an output that goes another way from here."""
        return Matcher(self.backend.deep_copy(), self.what)


class GrammarCompiler:
    """Makes matchers for one vocabulary, in any thread. The vocabulary is prepared by the first of
    them, if `prepare` was not called."""

    def __init__(
        self, tokenizer_json: str, vocab_size: int, end_token_ids: Sequence[int] = ()
    ) -> None:
        self._tokenizer_json = tokenizer_json
        self._vocab_size = vocab_size
        self._end_token_ids = sorted(end_token_ids)
        self._vocabulary: Any = None
        self._compiled: OrderedDict[Constraint, Matcher] = OrderedDict()
        self._lock = threading.Lock()  # of what was compiled; never held while something is

    def prepare(self) -> None:
        """Read the vocabulary. llguidance holds the interpreter up for as long as that takes,
        tenths of a second for a large one; while it compiles, other threads go on."""
        if self._vocabulary is None:
            self._vocabulary = self._read_vocabulary(import_llguidance())

    def compile(self, constraint: Constraint) -> Matcher:
        """A matcher at the constraint's start. Raises RequestError if it can't be used."""
        with self._lock:
            known = self._compiled.get(constraint)
        matcher = known or self._make(constraint)
        with self._lock:
            self._compiled[constraint] = matcher
            self._compiled.move_to_end(constraint)
            if len(self._compiled) > MAX_COMPILED:
                self._compiled.popitem(last=False)
        return matcher.copy()

    def _make(self, constraint: Constraint) -> Matcher:
        self.prepare()
        llguidance = import_llguidance()
        what = _WHAT[type(constraint)]
        try:
            grammar = _grammar_text(llguidance, constraint)
        except ValueError as error:
            raise RequestError(f"{what} can't be used: {_sentence(str(error))}") from None
        limits = llguidance.LLParserLimits(**LIMITS)
        backend = llguidance.LLMatcher(self._vocabulary, grammar, log_level=0, limits=limits)
        if not backend.is_error():
            # Some limits and contradictions show in the first mask; what it computes is kept.
            backend.compute_bitmask()
        if backend.is_error():
            raise RequestError(f"{what} can't be used: {_sentence(backend.get_error())}")
        return Matcher(backend, what)

    def _read_vocabulary(self, llguidance: Any) -> Any:
        try:
            return llguidance.LLTokenizer(
                self._tokenizer_json,
                n_vocab=self._num_tokens(),
                eos_token=self._end_token_ids or None,
            )
        except ValueError as error:
            raise RequestError(
                f"the model's tokenizer can't be constrained: {_sentence(str(error))}"
            ) from None

    def _num_tokens(self) -> int:
        """The model's logits may be fewer than the tokenizer's tokens, or more."""
        record = json.loads(self._tokenizer_json)
        vocab = record["model"].get("vocab", ())
        added: list[int] = [entry["id"] + 1 for entry in record.get("added_tokens", ())]
        return max([self._vocab_size, len(vocab), *added])

    @property
    def num_words(self) -> int:
        """The width of a mask in words."""
        if self._vocabulary is None:
            return num_words(self._num_tokens())
        return num_words(int(self._vocabulary.vocab_size))


def import_llguidance() -> Any:
    """The library, or one sentence that says that it is missing."""
    try:
        import llguidance
        from llguidance import LLMatcher  # noqa: F401 - a broken install fails here
    except ImportError:
        raise IngotError(
            "constrained output needs the package llguidance, which is not installed",
            hint="pip install 'ingot[constrain]'",
        ) from None
    return llguidance


def _grammar_text(llguidance: Any, constraint: Constraint) -> str:
    backend = llguidance.LLMatcher
    match constraint:
        case JsonSchema():
            text = backend.grammar_from_json_schema(constraint.text, overrides=JSON_OPTIONS)
        case JsonObject():
            text = backend.grammar_from_json_schema({"type": "object"}, overrides=JSON_OPTIONS)
        case Regex(pattern):
            text = backend.grammar_from_regex(pattern)
        case Choice(options):
            alternatives = " | ".join(json.dumps(option) for option in options)
            # One terminal: the parser follows 2,000 alternatives of a rule at most.
            text = backend.grammar_from_lark(f"start: CHOICE\nCHOICE: {alternatives}")
        case Grammar(lark):
            text = backend.grammar_from_lark(lark)
    return str(text)


def _sentence(error: str) -> str:
    """The library's message on one line, without its drawings of the place."""
    if error.startswith("NoExtension"):
        return "no text of this model's tokens fits it"
    text = " ".join(error.split("\n   1 |")[0].replace("<non-verbose/>", "").split())
    if len(text) > MAX_ERROR_CHARACTERS and "error: " in text:
        text = text[text.rindex("error: ") :]
    return text if len(text) <= MAX_ERROR_CHARACTERS else text[:MAX_ERROR_CHARACTERS] + "..."
