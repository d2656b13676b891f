"""`ingot serve` as a process, with the demo model and the official client."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import openai
import psutil
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from ingot.errors import UsageError
from ingot.runtime.server.serve import Address, bind, find_url, own_hosts
from tests.server.test_sse import wait_until
from tests.tolerances import assert_close

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "a list of names"}]
TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"enum": ["Oslo", "Paris"]}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "get_time"}},
]


@dataclass
class ServerProcess:
    process: subprocess.Popen[str]
    url: str
    lines: list[str]

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="a-long-key", max_retries=0)

    def end(self, timeout_s: float = 20) -> int:
        self.process.terminate()
        return self.process.wait(timeout_s)


def start(artifact: Path, *options: str) -> ServerProcess:
    process = subprocess.Popen(
        [sys.executable, "-m", "ingot.cli", "serve", str(artifact), "--port", "0", *options],
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "INGOT_API_KEYS": "a-long-key", "INGOT_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    lines = [process.stderr.readline(), process.stderr.readline()]
    found = re.search(r"on (http://\S+), (\d+) KV pages", lines[0])
    if found is None:
        process.kill()
        pytest.fail("".join(lines) + process.stderr.read())
    return ServerProcess(process, found[1], lines)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "artifact"
    command = ["compile", "demo", "--target", "cpu", "--quant", "f32", "--no-proof"]
    subprocess.run(
        [sys.executable, "-m", "ingot.cli", *command, "--out", str(folder)],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    return folder


@pytest.fixture(scope="module")
def running(artifact: Path) -> Iterator[ServerProcess]:
    server = start(artifact, "--kv-pages", "256")
    yield server
    assert server.end() == 0


@pytest.fixture
def client(running: ServerProcess) -> openai.OpenAI:
    return running.client


def test_the_start_says_how_to_ask(running: ServerProcess) -> None:
    assert "256 KV pages of" in running.lines[0]
    command = running.lines[1].removeprefix("try: ").replace("KEY", "a-long-key")
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["choices"][0]["text"]


@pytest.mark.parametrize("document", ["serving.md", "structured-output.md"])
def test_the_documents_examples_run(
    running: ServerProcess, capsys: pytest.CaptureFixture[str], document: str
) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / document).read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (example,) = (code for code in examples if "http://127.0.0.1:8000" in code)
    example = example.replace("http://127.0.0.1:8000", running.url)
    example = example.replace("unused without --api-key", "a-long-key")
    # The demo model would write on for long.
    exec(example.replace("stream=True", "stream=True, max_tokens=8, seed=1"), {})
    assert capsys.readouterr().out


def test_completions(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert client.models.retrieve(model.id).id == model.id == "demo"
    whole = client.completions.create(model="demo", prompt="def f(", max_tokens=8, temperature=0)
    parts = client.completions.create(
        model="demo", prompt="def f(", max_tokens=8, temperature=0, stream=True
    )
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text
    many = client.completions.create(
        model="demo", prompt=["def f(", "class "], max_tokens=8, n=2, seed=1, logprobs=1, echo=True
    )
    assert [choice.index for choice in many.choices] == [0, 1, 2, 3]
    for choice in many.choices:
        assert choice.logprobs is not None and choice.logprobs.tokens is not None
        assert "".join(choice.logprobs.tokens) == choice.text
        assert choice.logprobs.token_logprobs is not None
        assert choice.logprobs.token_logprobs[0] is None
        assert all(value <= 0 for value in choice.logprobs.token_logprobs[1:])


def test_embeddings_beside_a_stream(client: openai.OpenAI, artifact: Path) -> None:
    """What `transformers` gives for the demo model, for texts of which one takes several steps."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    demo = Path(__file__).resolve().parents[2] / "models/demo"
    model = AutoModelForCausalLM.from_pretrained(demo, dtype=torch.float32).eval().base_model
    tokenizer = AutoTokenizer.from_pretrained(demo)
    texts = ["def f(", "class Reader:\n", "x = 1\n" * 240, "import os"]
    ask = {"model": "demo", "prompt": "def g(", "max_tokens": 200, "temperature": 0}
    alone = client.completions.create(**ask).choices[0].text  # type: ignore[call-overload]
    events = iter(client.completions.create(**ask, stream=True))  # type: ignore[call-overload]
    text = next(events).choices[0].text
    for pooling in ("last", "mean"):
        answer = client.embeddings.create(
            model="demo", input=texts, extra_body={"pooling": pooling}
        )
        for prompt, each in zip(texts, answer.data, strict=True):
            ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                hidden = model(input_ids=ids).last_hidden_state[0].numpy()
            want = hidden[-1] if pooling == "last" else hidden.mean(0)
            assert_close(np.array(each.embedding), want / np.linalg.norm(want), "captured")
    num_tokens = [len(tokenizer(prompt)["input_ids"]) for prompt in texts]
    assert max(num_tokens) > 512, "longer than one step"
    assert answer.usage.prompt_tokens == sum(num_tokens)
    assert text + "".join(event.choices[0].text for event in events) == alone
    (short,) = client.embeddings.create(
        model="demo", input=texts[0], dimensions=8, encoding_format="float"
    ).data
    assert len(short.embedding) == 8
    with pytest.raises(openai.BadRequestError, match="dimensions is 257"):
        client.embeddings.create(model="demo", input="x", dimensions=257)


def test_chats(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(
        model="demo", messages=HELLO, max_tokens=8, temperature=0, logprobs=True, top_logprobs=2
    )
    assert whole.usage is not None and whole.usage.completion_tokens == 8
    assert whole.choices[0].finish_reason == "length"
    events = list(
        client.chat.completions.create(
            model="demo", messages=HELLO, max_completion_tokens=8, temperature=0, stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    text = "".join(e.choices[0].delta.content or "" for e in events if e.choices)
    assert text == whole.choices[0].message.content
    assert events[-1].usage == whole.usage.model_copy(
        update={"prompt_tokens_details": events[-1].usage.prompt_tokens_details}  # type: ignore[union-attr]
    )
    parts = client.chat.completions.create(model="demo", messages=HELLO, stream=True)
    next(iter(parts))
    parts.close()


@pytest.mark.parametrize("stream", [False, True])
def test_forced_tools(client: openai.OpenAI, stream: bool) -> None:
    """The demo model never learnt to call a tool; the constraint makes it."""
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice in (named, "required"):
        asked = {
            "model": "demo", "messages": HELLO, "tools": TOOLS, "tool_choice": choice,
            "parallel_tool_calls": False, "max_tokens": 200, "seed": 3,
        }  # fmt: skip
        if stream:
            with client.chat.completions.stream(**asked) as events:  # type: ignore[arg-type]
                message = events.get_final_completion().choices[0]
        else:
            message = client.chat.completions.create(**asked).choices[0]  # type: ignore[call-overload]
        assert message.finish_reason == "tool_calls"
        (call,) = message.message.tool_calls or []
        arguments = json.loads(call.function.arguments)
        if call.function.name == "get_weather":
            assert arguments["city"] in ("Oslo", "Paris")
        else:
            assert (call.function.name, arguments) == ("get_time", {})
    again = [*HELLO, message.message.model_dump(), {"role": "tool", "tool_call_id": call.id,
             "content": "sunny"}]  # fmt: skip
    answer = client.chat.completions.create(model="demo", messages=again, max_tokens=4)  # type: ignore[arg-type]
    assert answer.choices[0].message.content


def test_structured_output(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "colour": {"enum": ["red", "green"]}},
        "required": ["ok", "colour"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="demo", messages=HELLO, max_tokens=200, seed=1,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )  # fmt: skip
    record = json.loads(answer.choices[0].message.content or "")
    assert record.keys() == {"ok", "colour"} and record["colour"] in ("red", "green")
    for field, value, pattern in (
        ("guided_regex", "[a-c]{5}", "[a-c]{5}"),
        ("guided_choice", ["yes", "no"], "yes|no"),
        ("guided_grammar", 'start: "x" "y"+ "z"', "xy+z"),
    ):
        answer = client.chat.completions.create(
            model="demo", messages=HELLO, max_tokens=30, temperature=0, extra_body={field: value}
        )
        assert re.fullmatch(pattern, answer.choices[0].message.content or ""), field


class Answer(BaseModel):
    colour: Literal["red", "green"]
    is_sure: bool


class GetWeather(BaseModel):
    city: Literal["Oslo", "Paris"]
    is_long: bool | None


@pytest.mark.parametrize("stream", [False, True])
def test_parsed_output(client: openai.OpenAI, stream: bool) -> None:
    asked: dict[str, Any] = {"model": "demo", "messages": HELLO, "max_tokens": 300, "seed": 2}
    if stream:
        with client.chat.completions.stream(**asked, response_format=Answer) as events:
            message = events.get_final_completion().choices[0].message
    else:
        message = client.chat.completions.parse(**asked, response_format=Answer).choices[0].message
    assert isinstance(message.parsed, Answer)


def test_the_model_decides_between_a_strict_tool_and_an_answer(artifact: Path) -> None:
    """The demo model, which never learnt either, writes one or the other and nothing else."""
    template = artifact / "tools.jinja"
    template.write_text(
        "{{ tools | tojson }}\n{% for m in messages %}{{ m.content }}\n{% endfor %}<tool_call> or {"
    )
    server = start(artifact, "--kv-pages", "256", "--chat-template", str(template),
                   "--tool-parser", "hermes")  # fmt: skip
    try:
        choices = server.client.chat.completions.parse(
            model="demo", messages=HELLO, n=24, seed=1, max_tokens=300, temperature=1.3,
            tools=[openai.pydantic_function_tool(GetWeather)], response_format=Answer,
            parallel_tool_calls=False,
        ).choices  # fmt: skip
        calls = [call for choice in choices for call in choice.message.tool_calls or []]
        answers = [c.message.parsed for c in choices if not c.message.tool_calls]
        for call in calls:
            assert isinstance(call.function.parsed_arguments, GetWeather)
        assert calls and answers
        assert all(isinstance(answer, Answer) for answer in answers)
    finally:
        assert server.end() == 0


def test_errors_are_the_clients_own(running: ServerProcess, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="the prompt is empty"):
        client.completions.create(model="demo", prompt="")
    with pytest.raises(openai.NotFoundError, match="no model 'other'"):
        client.completions.create(model="other", prompt="a")
    with pytest.raises(openai.BadRequestError, match="the JSON schema"):
        client.completions.create(
            model="demo", prompt="a", extra_body={"guided_json": {"type": "nonsense"}}
        )
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="a-wrong-key").models.list()


FORMS: list[dict[str, object]] = [
    {"guided_regex": "(a{1000}){1000}"},
    {"guided_regex": "(x*x*x*x*){9}y"},
    {"guided_regex": "("},
    {"guided_json": {"type": "object", "minProperties": 10**9}},
    {"guided_json": {"enum": []}},
    {"guided_json": {"$ref": "#/nowhere"}},
    {"guided_json": {"$ref": "#"}},
    {"guided_json": {"type": "string", "minLength": 10**7}},
    {"guided_json": {"type": "integer", "minimum": 10**30}},
    {"guided_grammar": "start: start"},
    {"guided_grammar": 'start: "a"~1000000'},
    {"guided_grammar": "start: <[0-100000]>"},
    {"logit_bias": {str(token): -100 for token in range(2048)}},
    {"stop_token_ids": list(range(1024))},
    {"n": 128, "max_tokens": 1},
    {"temperature": 1e-300, "top_p": 1e-300},
]


@pytest.mark.parametrize("fields", FORMS, ids=lambda fields: str(fields)[:40])
def test_hostile_requests_harm_nobody(running: ServerProcess, fields: dict[str, object]) -> None:
    body = {"model": "demo", "prompt": "a", "max_tokens": 8, **fields}
    headers = {"Authorization": "Bearer a-long-key"}
    response = httpx.post(f"{running.url}/v1/completions", json=body, headers=headers, timeout=30)
    assert response.status_code in (200, 400), response.text
    assert httpx.get(f"{running.url}/health").status_code == 200


def test_long_headers_are_refused(running: ServerProcess) -> None:
    url = httpx.URL(running.url)
    assert url.port is not None
    with socket.create_connection((url.host, url.port), timeout=20) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000)
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert httpx.get(f"{running.url}/health").status_code == 200


def test_a_crash_of_the_engine_is_told(artifact: Path) -> None:
    server = start(artifact, "--kv-pages", "64")
    try:
        (engine,) = psutil.Process(server.process.pid).children()
        parts = server.client.completions.create(
            model="demo", prompt="x", stream=True, max_tokens=900, extra_body={"ignore_eos": True}
        )
        next(iter(parts))
        engine.send_signal(signal.SIGSEGV)
        with pytest.raises(openai.APIError, match="SIGSEGV"):
            for _ in parts:
                pass
        health = httpx.get(f"{server.url}/health")
        assert health.status_code == 503 and "SIGSEGV" in health.text
        with pytest.raises(openai.InternalServerError, match="SIGSEGV"):
            server.client.completions.create(model="demo", prompt="x")
    finally:
        assert server.end() == 0


def test_sigterm_lets_streams_finish(artifact: Path) -> None:
    server = start(artifact, "--kv-pages", "256", "--speculate", "--drain-seconds", "120")
    (engine,) = psutil.Process(server.process.pid).children()
    parts = server.client.completions.create(
        model="demo", prompt="x", stream=True, max_tokens=900, n=4,
        extra_body={"ignore_eos": True}, stream_options={"include_usage": True},
    )  # fmt: skip
    events = iter(parts)
    next(events)
    with httpx.Client(base_url=server.url) as client:
        assert client.get("/ready").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: client.get("/ready").status_code == 503)
    with pytest.raises(openai.InternalServerError, match="shutting down"):
        server.client.completions.create(model="demo", prompt="x")
    *_, last = events
    assert last.usage is not None and last.usage.completion_tokens == 3600
    assert server.process.wait(60) == 0
    assert not engine.is_running()


def test_an_address_that_is_taken_is_told_at_once() -> None:
    with bind(Address("127.0.0.1", 0)) as taken:
        assert taken.proto == socket.IPPROTO_TCP, "answers would wait for acknowledgements"
        taken.listen()
        port = taken.getsockname()[1]
        assert find_url(taken) == f"http://127.0.0.1:{port}"
        with pytest.raises(UsageError, match=f"127.0.0.1:{port} can't be listened on"):
            bind(Address("127.0.0.1", port))
    with pytest.raises(UsageError, match="nowhere.invalid:0"):
        bind(Address("nowhere.invalid", 0))


def test_a_loopback_server_knows_its_names() -> None:
    assert own_hosts(Address("127.0.0.1"), ("a.example",))[-1] == "a.example"
    assert "localhost" in own_hosts(Address("::1"), ())
    assert own_hosts(Address("0.0.0.0"), ()) == ()
    assert own_hosts(Address("0.0.0.0"), ("a.example",)) == ("a.example",)
