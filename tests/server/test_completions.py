"""`/v1/completions`: texts, token lists, echo, log probabilities, several outputs, streams."""

import json

import httpx
import pytest

from tests.server.conftest import FakeEngine, RunningServer, Serve, read_error


def read_events(response: httpx.Response) -> list[dict[str, object]]:
    lines = [line for line in response.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_a_prompt_is_continued(server: RunningServer) -> None:
    response = server.complete()
    reply = response.json()
    assert reply["object"] == "text_completion" and reply["model"] == "toy"
    assert reply["choices"] == [
        {"index": 0, "text": "one two three", "logprobs": None, "finish_reason": "stop"}
    ]
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 3}
    assert response.headers["x-request-id"] == reply["id"]


def test_prompts_come_in_four_forms(server: RunningServer) -> None:
    encode = server.engine.tokenizer.encode
    for prompt in ("a b", encode("a b"), ["a b"], [encode("a b")]):
        server.complete(prompt=prompt)
    assert [tokens for tokens, _, _ in server.engine.asked] == [encode("a b")] * 4


def test_several_prompts_keep_their_order(serve: Serve) -> None:
    server = serve(FakeEngine(texts=("x", "y")))
    choices = server.complete(prompt=["a", "b b", "c"], n=2, echo=True).json()["choices"]
    assert [choice["index"] for choice in choices] == list(range(6))
    assert [choice["text"] for choice in choices] == ["ax", "ay", "b bx", "b by", "cx", "cy"]


def test_log_probabilities_stand_beside_their_tokens(server: RunningServer) -> None:
    choice = server.complete(prompt="a b", echo=True, logprobs=1, max_tokens=2).json()["choices"][0]
    lists = choice["logprobs"]
    assert "".join(lists["tokens"]) == choice["text"]
    assert lists["token_logprobs"][0] is None and lists["top_logprobs"][0] is None
    assert set(lists["token_logprobs"][1:]) == {-0.5}
    for token, offset in zip(lists["tokens"], lists["text_offset"], strict=True):
        assert choice["text"][offset:].startswith(token)


def test_an_echo_alone_scores_the_prompt(server: RunningServer) -> None:
    answer = server.complete(prompt="a b", echo=True, logprobs=0, max_tokens=0).json()
    (choice,) = answer["choices"]
    assert answer["usage"]["completion_tokens"] == 0
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"]
    assert choice["text"] == "a b"
    assert len(choice["logprobs"]["tokens"]) == len(server.engine.tokenizer.encode("a b"))
    assert "without echo" in read_error(server.complete(max_tokens=0))


def test_a_stream_adds_up_to_the_whole(server: RunningServer) -> None:
    whole = server.complete(logprobs=1, echo=True).json()["choices"][0]
    events = read_events(
        server.complete(logprobs=1, echo=True, stream=True, stream_options={"include_usage": True})
    )
    *parts, last = events
    assert last["choices"] == [] and last["usage"]["completion_tokens"] > 0  # type: ignore[index]
    choices = [part["choices"][0] for part in parts]  # type: ignore[index]
    assert "".join(choice["text"] for choice in choices) == whole["text"]
    assert [o for c in choices for o in c["logprobs"]["text_offset"]] == (
        whole["logprobs"]["text_offset"]
    )
    assert [choice["finish_reason"] for choice in choices][-2:] == [None, "stop"]
    assert all(part["usage"] is None for part in parts)


def test_what_the_engine_is_asked(server: RunningServer) -> None:
    server.complete(
        temperature=0.5, top_p=0.9, top_k=5, min_p=0.1, repetition_penalty=1.1, seed=-1, n=2,
        best_of=3, presence_penalty=0.2, frequency_penalty=0.3, logit_bias={"5": -100}, stop="x",
        stop_token_ids=[7], max_tokens=9, min_tokens=2, ignore_eos=True, logprobs=2,
        priority=3, timeout_s=4.5, prefix_cache=False, cache_salt="s",
    )  # fmt: skip
    _, params, options = server.engine.asked[0]
    assert params.temperature == 0.5 and params.top_p == 0.9 and params.top_k == 5
    assert params.min_p == 0.1 and params.repetition_penalty == 1.1 and params.seed == 2**64 - 1
    assert (params.n, params.best_of, params.max_tokens, params.min_tokens) == (2, 3, 9, 2)
    assert params.logit_bias == {5: -100} and params.stop == ("x",) and params.ignore_eos
    assert params.stop_token_ids == (7,) and params.logprobs == 2
    assert params.presence_penalty == 0.2 and params.frequency_penalty == 0.3
    assert (options.priority, options.timeout_s, options.prefix_cache) == (3, 4.5, False)
    assert options.cache_salt == "/s"


def test_what_is_left_open_is_openais(server: RunningServer) -> None:
    server.complete()
    _, params, _ = server.engine.asked[0]
    assert (params.temperature, params.max_tokens, params.logprobs) == (1.0, 16, None)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2, "stream": True}, "can't be streamed"),
        ({"n": 2, "best_of": 1}, "best_of is 1"),
        ({"n": 99, "prompt": ["a", "b"]}, "asks for 198 outputs"),
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": []}, "prompt: it is a text, a list of texts, a list of token ids"),
        ({"prompt": {"a": 1}}, "prompt: it is a text"),
        ({"prompt": [1, "a"]}, "prompt: it is a text"),
        ({"prompt": [10**6]}, "outside 0 to"),
        ({"prompt": [-1]}, "prompt: it is a text"),
        ({"prompt": "a " * 600}, "context holds 512"),
        ({"prompt": "a" * 40_000}, "the text has 40000 characters"),
        ({"max_tokens": -1}, "max_tokens: input should be greater than or equal to 0"),
        ({"max_tokens": 2**40}, "max_tokens is 1099511627776"),
        ({"n": 0}, "n: input should be"),
        ({"temperature": "hot"}, "temperature: input should be a valid number"),
        ({"temperature": True}, "temperature: input should be a valid number"),
        ({"logit_bias": {"x": 1}}, "logit_bias has 'x'"),
        ({"logit_bias": {"99999999": 1}}, "logit_bias has token 99999999"),
        ({"stop": [""]}, "stop has ''"),
        ({"stop": 1}, "stop: it is a text or a list of texts"),
        ({"top_p": 0}, "top_p is 0"),
        ({"tempratur": 1}, "tempratur is not a parameter"),
        ({"stream_options": {"include_usag": True}}, "stream_options.include_usag is not"),
        ({"prompt": "\ud800"}, "half a surrogate pair"),
        ({"guided_regex": "a", "guided_choice": ["b"]}, "are both given"),
        ({"guided_choice": []}, "the choice has 0 options"),
    ],
)
def test_bad_input_gets_a_sentence(server: RunningServer, fields: object, words: str) -> None:
    assert isinstance(fields, dict)
    body = json.dumps({"model": "toy", "prompt": "a", **fields})
    headers = {"Content-Type": "application/json"}
    response = server.client.post("/v1/completions", content=body, headers=headers)
    assert response.status_code == 400, response.text
    assert words in read_error(response)
    assert not server.engine.asked
