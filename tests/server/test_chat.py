"""`/v1/chat/completions`: messages, streams, log probabilities, forms and tools."""

import json
from typing import Any

import pytest

from ingot.runtime.constraints import Grammar, JsonObject, JsonSchema
from tests.server.conftest import FakeEngine, RunningServer, Serve, read_error
from tests.server.test_completions import read_events

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
HERMES = "{% if tools %}{{ tools | tojson }}<tool_call>{% endif %}{{ messages | tojson }}"


def test_a_conversation_is_answered(server: RunningServer) -> None:
    reply = server.chat("hello").json()
    assert reply["object"] == "chat.completion" and reply["id"].startswith("chatcmpl-")
    message = {"role": "assistant", "content": "one two three", "refusal": None}
    assert reply["choices"] == [
        {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    ]
    tokens, params, _ = server.engine.asked[0]
    assert "hello" in server.engine.tokenizer.decode(tokens)
    assert params.max_tokens is None and params.temperature == 1.0


def test_a_stream_begins_with_the_role_and_ends_with_the_usage(server: RunningServer) -> None:
    first, *parts, last = read_events(
        server.chat(stream=True, n=2, stream_options={"include_usage": True})
    )
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}  # type: ignore[index]
    texts = {0: "", 1: ""}
    for part in parts:
        choice = part["choices"][0]  # type: ignore[index]
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == {0: "one two three", 1: "one two three"}
    assert last["choices"] == []


def test_log_probabilities_have_bytes(server: RunningServer) -> None:
    choice = server.chat(logprobs=True, top_logprobs=2).json()["choices"][0]
    content = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in content) == "one two three"
    assert bytes(b for token in content for b in token["bytes"]) == b"one two three"
    assert all(len(token["top_logprobs"]) == 2 for token in content)


def test_the_history_reaches_the_template(serve: Serve) -> None:
    server = serve(chat_template="{{ messages | tojson }}")
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "parsed": {"by": "the client"},
            "tool_calls": [
                {"id": "c1", "type": "function",
                 "function": {"name": "f", "arguments": '{"x": 1}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
    ]  # fmt: skip
    response = server.client.post(
        "/v1/chat/completions", json={"model": "toy", "messages": messages}
    )
    assert response.status_code == 200, response.text
    shown = json.loads(server.engine.tokenizer.decode(server.engine.asked[0][0]))
    assert shown[0] == {"role": "system", "content": "be brief"}
    assert shown[1] == {"role": "user", "content": "ab"}
    assert shown[2]["tool_calls"][0]["function"] == {"name": "f", "arguments": {"x": 1}}
    assert shown[2]["content"] == "" and shown[3]["tool_call_id"] == "c1"


def test_response_formats_become_constraints(server: RunningServer) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    server.chat(response_format=form)
    server.chat(response_format={"type": "json_object"})
    server.chat(response_format={"type": "text"})
    asked = [params.constraint for _, params, _ in server.engine.asked]
    assert asked == [JsonSchema(schema), JsonObject(), None]


def test_a_named_tool_streams_its_arguments(serve: Serve) -> None:
    server = serve(FakeEngine('{"city": "Paris"}'))
    choice = {"type": "function", "function": {"name": "get_weather"}}
    reply = server.chat(tools=[WEATHER], tool_choice=choice).json()["choices"][0]
    (call,) = reply["message"]["tool_calls"]
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    assert reply["finish_reason"] == "tool_calls" and reply["message"]["content"] is None
    assert server.engine.asked[0][1].constraint == JsonSchema(WEATHER["function"]["parameters"])  # type: ignore[index]
    events = read_events(server.chat(tools=[WEATHER], tool_choice=choice, stream=True))
    deltas = [e["choices"][0]["delta"].get("tool_calls") for e in events]  # type: ignore[index]
    pieces = [calls[0] for calls in deltas if calls]
    assert len(pieces) > 2 and pieces[0]["function"]["name"] == "get_weather"
    assert "".join(p["function"]["arguments"] for p in pieces) == '{"city": "Paris"}'


def test_a_required_call_is_one_of_the_tools(serve: Serve) -> None:
    text = '[{"name": "get_weather", "arguments": {"city": "Oslo"}}]'
    server = serve(FakeEngine(text))
    reply = server.chat(tools=[WEATHER], tool_choice="required").json()["choices"][0]
    assert reply["message"]["tool_calls"][0]["function"]["arguments"] == '{"city": "Oslo"}'
    constraint = server.engine.asked[0][1].constraint
    assert isinstance(constraint, JsonSchema)
    assert json.loads(constraint.text)["items"]["properties"]["name"] == {"const": "get_weather"}


def test_a_model_calls_tools_by_itself(serve: Serve) -> None:
    text = 'Let me see. <tool_call>{"name": "get_weather", "arguments": {}}</tool_call>'
    server = serve(FakeEngine(text), chat_template=HERMES)
    reply = server.chat(tools=[WEATHER]).json()["choices"][0]
    assert reply["message"]["content"] == "Let me see."
    assert reply["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
    assert reply["finish_reason"] == "tool_calls"
    server.chat(tools=[WEATHER], tool_choice="none")
    prompts = [server.engine.tokenizer.decode(tokens) for tokens, _, _ in server.engine.asked]
    assert "get_weather" in prompts[0] and "get_weather" not in prompts[1]


def test_strict_tools_are_held_to_their_schemas(serve: Serve) -> None:
    server = serve(FakeEngine('{"city": "Rome"}'), chat_template=HERMES)
    function = {**WEATHER["function"], "strict": True}  # type: ignore[dict-item]
    strict = {"type": "function", "function": function}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    server.chat(tools=[WEATHER])
    server.chat(tools=[strict])
    reply = server.chat(tools=[WEATHER], response_format=form).json()["choices"][0]
    assert reply["message"]["content"] == '{"city": "Rome"}' and reply["finish_reason"] == "stop"
    server.chat(tools=[strict], tool_choice="none", response_format=form)
    server.chat(tools=[strict], tool_choice="required", response_format=form)
    free, calls, both, answer, forced = (params.constraint for _, params, _ in server.engine.asked)
    assert free is None and answer == JsonSchema({"type": "object"})
    assert isinstance(calls, Grammar) and "TEXT" in calls.lark.splitlines()[0]
    assert isinstance(both, Grammar) and "answer" in both.lark.splitlines()[0]
    assert isinstance(forced, JsonSchema) and "tool0" in forced.text


def test_a_tool_that_cannot_be_held_is_refused(serve: Serve) -> None:
    server = serve(chat_template=HERMES, tool_parser="xml")
    function = {"name": "f", "strict": True, "parameters": {"type": "object", "oneOf": []}}
    response = server.chat(tools=[{"type": "function", "function": function}])
    assert response.status_code == 400
    assert "the parameters of f have oneOf" in read_error(response)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"messages": []}, "messages: list should have at least 1 item"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role: input should be"),
        ({"messages": [{"role": "user"}]}, "messages[0].content is missing"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "list of parts"),
        ({"messages": [{"role": "user", "content": "x", "tool_call_id": "a"}]}, "tool's message"),
        ({"tools": [WEATHER]}, "no tool calls that this server can read"),
        ({"tools": [WEATHER, WEATHER]}, "the same name"),
        ({"tool_choice": "required"}, "there are no tools"),
        ({"tools": [WEATHER], "tool_choice": "maybe"}, "tool_choice: it is"),
        (
            {
                "tools": [WEATHER],
                "tool_choice": {"type": "function", "function": {"name": "f"}},
            },
            "names 'f'",
        ),
        ({"top_logprobs": 2}, "top_logprobs needs logprobs"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "are both given"),
        ({"response_format": {"type": "json_schema"}}, "json_schema is missing"),
        ({"chat_template_kwargs": {"messages": []}}, "has messages"),
        ({"chat_template_kwargs": {"self": 1}}, "the chat template failed"),
        (
            {"response_format": {"type": "json_object"}, "guided_regex": "a"},
            "response_format and guided_regex",
        ),
        (
            {"tools": [WEATHER], "tool_choice": "required", "guided_regex": "a"},
            "beside tool calls an answer can be JSON",
        ),
    ],
)
def test_bad_input_gets_a_sentence(
    server: RunningServer, fields: dict[str, Any], words: str
) -> None:
    response = server.chat(**fields)
    assert response.status_code == 400, response.text
    assert words in read_error(response)


def test_a_model_without_a_template_says_so(serve: Serve) -> None:
    engine = FakeEngine()
    engine.tokenizer._template_source = None
    server = serve(engine)
    assert "--chat-template" in read_error(server.chat())
    assert not server.client.get("/v1/models").json()["data"][0]["has_chat_template"]
