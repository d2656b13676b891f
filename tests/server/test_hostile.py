"""Whatever the server's own description allows, and what it doesn't: no 5xx, no hang, no harm."""

import json
import random
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from tests.server.conftest import RunningServer

# A failing example is printed with the seed; the same examples run each time.
EXAMPLES = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE")


def test_requests_by_the_description(server: RunningServer) -> None:
    """Valid and invalid requests that schemathesis makes of the OpenAPI document."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    asked = []
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path == "/v1/engine":
            continue  # its stream has no end; test_inspection reads it
        takes_body = bool(operation.body)  # any text is a valid part of a path
        for mode in schemathesis.GenerationMode:
            if mode.is_negative and not takes_body:
                continue  # there is nothing to get wrong

            @EXAMPLES
            @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            def check(case: Any) -> None:
                response = case.call(timeout=60)
                asked.append(response.status_code)
                assert response.status_code < 500 or response.status_code == 501, response.text
                if response.status_code >= 400:
                    assert response.json()["error"]["message"]

            check()
    assert {200, 400, 404} <= set(asked)
    assert server.complete().status_code == 200


def mutate(body: dict[str, Any], rng: random.Random) -> Any:
    """One field of a good body, or of something inside it, becomes something else."""
    odd = [
        None, True, 0, -1, 2**31, 2**63, 2**64, 10**30, -(2**63), 1.5, -0.0, 1e308, "", "x",
        "\x00", "\ufeff", "a" * 5000, [], {}, [[]], [None], {"": None}, {"a": [{}]}, ["a"] * 300,
        {str(i): i for i in range(300)}, "null", "\u2028", "-1", "1e9",
    ]  # fmt: skip
    copy = json.loads(json.dumps(body))
    place: Any = copy
    while True:
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.7:
            place = place[key]
            continue
        place[key] = rng.choice(odd)
        return copy


BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {
        "model": "toy", "prompt": ["a", "b"], "max_tokens": 4, "n": 2, "best_of": 2, "echo": True,
        "logprobs": 1, "temperature": 1.0, "top_p": 0.9, "top_k": 4, "min_p": 0.1, "seed": 1,
        "stop": ["x"], "logit_bias": {"1": 2}, "stream": False, "priority": 1, "timeout_s": 3.0,
        "repetition_penalty": 1.1, "presence_penalty": 0.1, "stop_token_ids": [1],
        "min_tokens": 1, "cache_salt": "s", "guided_regex": "a", "stream_options": {},
    },
    "/v1/chat/completions": {
        "model": "toy", "max_tokens": 4, "logprobs": True, "top_logprobs": 2,
        "messages": [
            {"role": "system", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "b"}], "name": "n"},
            {"role": "assistant", "content": "c", "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "d"},
        ],
        "tools": [{"type": "function", "function": {
            "name": "f", "parameters": {"type": "object", "properties": {"x": {"$ref": "#"}}}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "chat_template_kwargs": {"a": 1}, "stream": True,
        "stream_options": {"include_usage": True},
    },
    "/tokenize": {"messages": [{"role": "user", "content": "a"}], "return_token_strs": True},
    "/detokenize": {"tokens": [1, 2, 3]},
    "/v1/embeddings": {"model": "toy", "input": ["a"], "encoding_format": "float"},
}  # fmt: skip


@pytest.mark.parametrize("path", BODIES)
def test_one_field_is_wrong(server: RunningServer, path: str) -> None:
    rng = random.Random(path)
    for _ in range(150):
        body = mutate(BODIES[path], rng)
        response = server.client.post(path, json=body)
        assert response.status_code < 500 or response.status_code == 501, (body, response.text)
        if response.status_code >= 400:
            assert response.json()["error"]["message"], body


@pytest.mark.parametrize("path", [*BODIES, "/v1/models", "/metrics", "/"])
def test_odd_methods_and_bodies(server: RunningServer, path: str) -> None:
    rng = random.Random(path)
    for method in METHODS:
        for length in (0, 1, 50):
            content = rng.randbytes(length)
            headers = {"Content-Type": "application/json"}
            response = server.client.request(method, path, content=content, headers=headers)
            assert response.status_code < 500, (method, path, response.text)


@pytest.mark.parametrize("depth", [1, 40, 300, 5000])
def test_nested_schemas(server: RunningServer, depth: int) -> None:
    # Written by hand: json.dumps has the same limit that is tested.
    inner = '{"type":"object","properties":{"a":' * depth + "{}" + "}}" * depth
    form = f'{{"type":"json_schema","json_schema":{{"name":"x","schema":{inner}}}}}'
    content = (
        '{"model":"toy","messages":[{"role":"user","content":"a"}],"response_format":' + form + "}"
    )
    response = server.client.post(
        "/v1/chat/completions",
        content=content.encode(),
        headers={"Content-Type": "application/json"},
    )
    assert response.status_code == (200 if depth == 1 else 400), response.text
