"""Random walks through a constraint end in what it describes; hostile constraints are refused."""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from ingot.errors import IngotError, RequestError
from ingot.runtime.constraints import Choice, Constraint, Grammar, JsonObject, JsonSchema, Regex
from ingot.runtime.constraints import matcher as matcher_module
from ingot.runtime.constraints.masks import MaskMaker, MaskRequest, allowed_tokens
from ingot.runtime.constraints.matcher import GrammarCompiler, num_words

TOKENIZER = Path(__file__).parents[3] / "models" / "demo" / "tokenizer.json"
END = 0
VOCAB = 2048
SECONDS = 5.0  # of this process's own work, far above what the limits allow


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    return GrammarCompiler(TOKENIZER.read_text(), VOCAB, [END])


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(TOKENIZER))


def walk(
    compiler: GrammarCompiler, constraint: Constraint, seed: int, longest: int = 400
) -> tuple[list[int], bool]:
    """A random output, and whether it came to its end. Prefers short tokens and early ends."""
    maker = MaskMaker(compiler.num_words)
    matcher = compiler.compile(constraint)
    random = np.random.default_rng(seed)
    tokens: list[int] = []
    while len(tokens) < longest and not matcher.is_done:
        bits = maker.start([MaskRequest(matcher, 0)]).result().bits[0]
        allowed = np.flatnonzero(allowed_tokens(bits, VOCAB))
        assert allowed.size, "a place from where nothing goes on"
        token = END if allowed[0] == END and random.random() < 0.5 else int(random.choice(allowed))
        if token == END:
            matcher.advance(END, is_end=True)
            assert matcher.is_accepting
            return tokens, True
        matcher.advance(token)
        tokens.append(token)
    return tokens, matcher.is_done


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


def is_person(text: str) -> bool:
    person = json.loads(text)
    return (
        set(person) <= {"name", "age", "tags"}
        and len(person["name"]) <= 8
        and 0 <= person["age"] <= 150
        and all(tag in ("a", "b") for tag in person.get("tags", []))
    )


VALID: list[tuple[Constraint, Callable[[str], object]]] = [
    (JsonSchema(PERSON), is_person),
    (Regex(r"[0-9]{3}-[a-f]{1,4}x*"), re.compile(r"[0-9]{3}-[a-f]{1,4}x*").fullmatch),
    (Choice(["yes", "no", 'may"be\n', "é"]), {"yes", "no", 'may"be\n', "é"}.__contains__),
    (Grammar('start: "[" (start ",")? "]"'), re.compile(r"(\[)+(\],)*.*\]").fullmatch),
]


@pytest.mark.parametrize(("constraint", "is_valid"), VALID, ids=lambda v: type(v).__name__)
def test_every_output_is_valid(
    compiler: GrammarCompiler,
    tokenizer: Tokenizer,
    constraint: Constraint,
    is_valid: Callable[[str], object],
) -> None:
    ended = 0
    for seed in range(20):
        tokens, is_whole = walk(compiler, constraint, seed)
        ended += is_whole
        text = tokenizer.decode(tokens)
        assert not is_whole or is_valid(text), text
    assert ended >= 15


def test_any_object(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    ended = [walk(compiler, JsonObject(), seed, 2000) for seed in range(10)]
    texts = [tokenizer.decode(tokens) for tokens, is_whole in ended if is_whole]
    assert texts and all(isinstance(json.loads(text), dict) for text in texts)


def test_copies_go_their_own_ways(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    first = compiler.compile(Choice(["yes", "no"]))
    second = first.copy()
    first.advance(tokenizer.encode("n").ids[0])
    assert first.count_allowed(tokenizer.encode("o").ids) == 1
    assert second.count_allowed(tokenizer.encode("o").ids) == 0
    assert not compiler.compile(Choice(["yes", "no"])).is_accepting


def test_a_token_that_may_not_come(compiler: GrammarCompiler) -> None:
    matcher = compiler.compile(Choice(["yes", "no"]))
    with pytest.raises(RequestError, match="the choice can't go on"):
        matcher.advance(5)


HOSTILE: list[Constraint] = [
    JsonSchema({"$ref": "#"}),
    JsonSchema({"$ref": "http://example.com/schema.json"}),
    JsonSchema({"type": "fish"}),
    JsonSchema({"not": {}}),
    JsonSchema({"type": "integer", "minimum": 5, "maximum": 3}),
    JsonSchema({"allOf": [{"type": "string", "pattern": f".*{'ab' * i}.*"} for i in range(1, 12)]}),
    Regex("(a"),
    Regex("(?=a)b"),
    Regex(r"[^\s\S]"),
    Regex("(" * 60_000 + "a" + ")" * 60_000),
    Grammar("start: missing"),
    Grammar("start: a\na: start"),
    Grammar("start: " + "(" * 1000 + '"a"' + ")" * 1000),
]


@pytest.mark.parametrize("constraint", HOSTILE, ids=lambda c: str(c)[:40])
def test_hostile_constraints_are_refused_soon(
    compiler: GrammarCompiler, constraint: Constraint
) -> None:
    start_s = time.process_time()
    with pytest.raises(RequestError, match="can't be used") as caught:
        compiler.compile(constraint)
    assert time.process_time() - start_s < SECONDS
    assert "\n" not in caught.value.message and len(caught.value.message) < 400


def test_a_limit_that_is_met_on_the_way(compiler: GrammarCompiler) -> None:
    properties = {f"p{i}": {"type": "string"} for i in range(2000)}
    with pytest.raises(RequestError, match="can't go on: Parser Error: Current row has 8007 items"):
        walk(compiler, JsonSchema({"type": "object", "properties": properties}), seed=1)


@pytest.mark.parametrize(
    "constraint",
    [
        JsonSchema({"type": "string", "minLength": 100_000, "maxLength": 1_000_000}),
        JsonSchema({"multipleOf": 10_000, "type": "integer"}),
        JsonSchema({"enum": ["x" * 30 + str(i) for i in range(3000)]}),
        Regex("((a{1,20}){1,20}){1,20}"),
        Regex(".*" * 100 + "x"),
        Grammar('start: s\ns: s s s | s s | "a" | '),
    ],
    ids=lambda c: str(c)[:40],
)
def test_big_constraints_stay_quick(compiler: GrammarCompiler, constraint: Constraint) -> None:
    start_s = time.process_time()
    walk(compiler, constraint, seed=1, longest=30)
    assert time.process_time() - start_s < SECONDS


def test_more_logits_than_tokens() -> None:
    compiler = GrammarCompiler(TOKENIZER.read_text(), VOCAB + 100, [END])
    matcher = compiler.compile(Regex(r"(?s:.*)"))
    assert compiler.num_words == num_words(VOCAB + 100)
    bits = MaskMaker(compiler.num_words).start([MaskRequest(matcher, 0)]).result().bits[0]
    allowed = allowed_tokens(bits, VOCAB + 100)
    assert allowed[:VOCAB].sum() > VOCAB // 2 and not allowed[VOCAB:].any()


def test_without_llguidance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(IngotError, match="llguidance, which is not installed"):
        matcher_module.import_llguidance()
