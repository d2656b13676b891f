"""Constrained requests in an engine: valid outputs, beside others, with guesses, to every end."""

import json
import re
import string
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from ingot.errors import RequestError
from ingot.runtime.constraints import Choice, Constraint, Grammar, JsonObject, JsonSchema, Regex
from ingot.runtime.constraints.masker import Masker
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.speculation.governor import Governor
from ingot.runtime.speculation.prompt_lookup import PromptLookup
from ingot.runtime.speculation.speculator import Speculator

VOCAB = 64  # the toy model's
END = 0
CHARACTERS = [*'{}[]":,. -+\n', *string.digits, *string.ascii_lowercase]
WORDS = ["true", "false", "null", '":Ġ', '",Ġ"', "00", "ab"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """JSON's characters and some words, for a vocabulary as small as the toy model's."""
    characters = [c.replace(" ", "Ġ").replace("\n", "Ċ") for c in CHARACTERS]
    names = ["<end>", *characters, *WORDS]
    names += [f"<unused{i}>" for i in range(VOCAB - len(names))]
    tokenizer = Tokenizer(models.BPE(vocab={n: i for i, n in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([name for name in names if name.startswith("<")])
    return tokenizer


@pytest.fixture
def make_constrained(
    make_rig: Callable[..., Any], tokenizer: Tokenizer, tmp_path: Path
) -> Callable[..., Any]:
    def make(**options: Any) -> Any:
        rig = make_rig(**{"num_pages": 256, **options})
        path = tmp_path / "json" / "tokenizer.json"
        path.parent.mkdir(exist_ok=True)
        tokenizer.save(str(path))
        masker = Masker(path, VOCAB, [END])
        rig.core.masker = rig.core._sampler._masker = masker
        return rig

    return make


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


def is_person(text: str) -> bool:
    person = json.loads(text)
    return set(person) == {"name", "age"} and 0 <= person["age"] <= 150


CONSTRAINTS: list[tuple[Constraint, Callable[[str], object]]] = [
    (JsonSchema(PERSON), is_person),
    (JsonObject(), lambda text: isinstance(json.loads(text), dict)),
    (Regex(r"[0-9]{3}-[a-f]{1,4}"), re.compile(r"[0-9]{3}-[a-f]{1,4}").fullmatch),
    (Choice(["yes", "no", "maybe", "true"]), {"yes", "no", "maybe", "true"}.__contains__),
    (Grammar('start: "a" start "b" | "c"'), re.compile("a*cb*").fullmatch),
]


def wishes(constraint: Constraint | None, seed: int, **more: Any) -> SamplingParams:
    options = {"temperature": 2.0, "max_tokens": 90, **more}
    return SamplingParams(seed=seed, constraint=constraint, **options)


def answer(rig: Any, params: list[SamplingParams]) -> list[tuple[tuple[int, ...], str]]:
    """Tokens and the reason for the end, of a request for each."""
    prompts = [[1 + seed % 5, 2, 3] for seed in range(len(params))]
    completions = rig.engine.generate(prompts, params)
    rig.core.check_integrity()
    return [(c.token_ids, c.finish_reason) for c in completions]


def test_every_kind_in_one_batch(
    make_constrained: Callable[..., Any], tokenizer: Tokenizer
) -> None:
    """And requests without a constraint answer as they do alone."""
    kinds = [constraint for constraint, _ in CONSTRAINTS]
    params = [wishes(kind, seed) for seed in range(6) for kind in [*kinds, None]]
    answers = answer(make_constrained(), params)
    num_whole = 0
    for (tokens, reason), one in zip(answers, params, strict=True):
        if one.constraint is None:
            continue
        is_valid = dict(CONSTRAINTS)[one.constraint]
        if reason == "stop":
            num_whole += 1
            text = tokenizer.decode(list(tokens), skip_special_tokens=True)
            assert is_valid(text), (one.constraint, text)
    assert num_whole >= 20
    free = [one if one.constraint is None else wishes(None, 99) for one in params]
    for got, alone, one in zip(answers, answer(make_constrained(), free), params, strict=True):
        assert one.constraint is not None or got == alone


def test_with_guesses_the_same(
    make_constrained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Governor, "may_speculate", lambda governor, batch: True)
    monkeypatch.setattr(Governor, "choose", lambda governor, talks, limits: list(limits))
    literal = Grammar('start: "true, null, " /[0-9]/ " false" start?')
    kinds = [*(constraint for constraint, _ in CONSTRAINTS), literal]
    params = [wishes(kind, seed, presence_penalty=0.3) for seed in range(4) for kind in kinds]
    expected = answer(make_constrained(), params)
    rig = make_constrained()
    rig.core._speculator = Speculator(PromptLookup(), 4, lambda: 0.0)
    assert answer(rig, params) == expected
    assert rig.core.counters.num_accepted_tokens > 20, "forced text is guessed right"


def test_preempted_and_forked(make_constrained: Callable[..., Any]) -> None:
    params = [wishes(kind, seed, max_tokens=20) for seed in range(2) for kind, _ in CONSTRAINTS]
    expected = answer(make_constrained(), params)
    tight = make_constrained(num_pages=8, max_sequences=4, max_step_tokens=8)
    assert answer(tight, params) == expected
    assert tight.core.counters.num_preemptions > 0
    several = SamplingParams(
        n=4, temperature=3.0, seed=1, max_tokens=9, constraint=Choice(["yes", "no", "maybe"])
    )
    rig = make_constrained()
    outputs = rig.engine.generate([[1, 2, 3]], several)
    assert len(outputs) == 4 and {o.finish_reason for o in outputs} == {"stop"}


def test_a_choice_of_thousands(make_constrained: Callable[..., Any], tokenizer: Tokenizer) -> None:
    """More than the alternatives of a rule that llguidance's parser follows."""
    options = [f"{number:04d}" for number in range(3000)]
    [(tokens, reason)] = answer(make_constrained(), [wishes(Choice(options), 1)])
    assert (tokenizer.decode(list(tokens)) in options, reason) == (True, "stop")


def test_ends(make_constrained: Callable[..., Any], tokenizer: Tokenizer) -> None:
    def text_of(params: SamplingParams) -> tuple[str, str]:
        [(tokens, reason)] = answer(make_constrained(), [params])
        return tokenizer.decode(list(tokens), skip_special_tokens=False), reason

    done = text_of(wishes(Choice(["yes"]), 1))
    assert done == ("yes", "stop"), "no end token where nothing may follow"
    assert text_of(wishes(Regex("a{3}"), 1, max_tokens=2))[1] == "length"
    # min_tokens forbids the end while the form allows more, and yields where it doesn't.
    text, _ = text_of(wishes(Regex("b*"), 1, min_tokens=12, max_tokens=40))
    assert text.count("b") >= 12
    assert text_of(wishes(Regex("bb"), 1, min_tokens=30)) == ("bb", "stop")
    # A token that the form allows may be one that stops.
    stop = tokenizer.token_to_id("c")
    text, reason = text_of(wishes(Grammar('start: "a" start "b" | "c"'), 3, stop_token_ids=[stop]))
    assert text.endswith("c") and reason == "stop"


def test_bias_and_penalties_do_not_break_the_form(make_constrained: Callable[..., Any]) -> None:
    loud = {token: 1e38 for token in range(40, VOCAB)}
    params = wishes(Choice(["yes", "no"]), 1, logit_bias=loud, repetition_penalty=5.0)
    [(_, reason)] = answer(make_constrained(), [params])
    assert reason == "stop"


def test_one_that_breaks_ends_alone(make_constrained: Callable[..., Any]) -> None:
    """A limit of the grammar that only shows on the way."""
    names = {f"p{i}": {"type": "string"} for i in range(2000)}
    bad = wishes(JsonSchema({"type": "object", "properties": names}), 1)
    good = wishes(Choice(["yes", "no"]), 2)
    rig = make_constrained()
    ids = [rig.core.add([1, 2], params) for params in (bad, good)]
    chunks = []
    while rig.core.has_work:
        chunks += rig.core.step()
    last = {chunk.request_id: chunk for chunk in chunks if chunk.finish_reason}
    assert last[ids[0]].finish_reason == "error" and "can't go on" in last[ids[0]].error
    assert last[ids[1]].finish_reason == "stop" and not last[ids[1]].error


def test_refused_before_anything_runs(make_constrained: Callable[..., Any]) -> None:
    rig = make_constrained()
    with pytest.raises(RequestError, match="the pattern can't be used"):
        rig.core.add([1, 2], wishes(Regex("(a"), 1))
    assert not rig.core.has_work and rig.core.counters.num_requests == 0
    with pytest.raises(RequestError, match="ignore_eos"):
        wishes(Regex("a"), 1, ignore_eos=True)
    with pytest.raises(RequestError, match="it is one of JsonSchema, JsonObject"):
        wishes("a", 1)  # type: ignore[arg-type]


def test_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no tokenizer"):
        Masker(tmp_path / "tokenizer.json", VOCAB, []).compile(Regex("a"))


def test_what_was_compiled_ahead_is_there(
    make_constrained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/embedding.md has it: a thread compiles, a request runs on, the next joins."""
    engine = make_constrained().engine
    engine.masker.prepare()
    engine.add_request([5, 6], SamplingParams(max_tokens=200, ignore_eos=True))
    with ThreadPoolExecutor(1) as thread:
        compiled = thread.submit(engine.masker.compile_ahead, Regex("[0-9]{3}"))
        while not compiled.done():
            assert engine.step()
        compiled.result()
    monkeypatch.delattr("ingot.runtime.constraints.matcher.GrammarCompiler._make")
    engine.add_request([1, 2, 3], SamplingParams(max_tokens=9, constraint=Regex("[0-9]{3}")))
    assert engine.step()
