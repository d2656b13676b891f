"""A server that answers as ours does, with canned text: what the page is tested against."""

import asyncio
import json
import math
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from ingot.runtime.server.page import page_router

MARKDOWN = """# A title

Some **bold**, *thin* and `code`, and [a link](https://example.org/a).

1. first
2. second
   - nested

| name | value |
| :--- | ---: |
| alpha | 1 |
| beta | `2 | 3` |

> A quote

```python
def add(a, b):
    return a + b
```
"""
HOSTILE = (
    "<script>window.attacked = 1</script><img src=x onerror='window.attacked = 1'> "
    "[a](javascript:window.attacked=1) ![b](https://example.org/x.png) "
    "[c](data:text/html,<script>alert(1)</script>)\n\n"
    "```<b>\n</code></pre><script>window.attacked = 1</script>\n```\n\n"
    "| <i>x</i> | y |\n|---|---|\n| <svg onload='window.attacked=1'> | z |"
)
THOUGHT = "<think>\nLet me **see**.\n\nYes.\n</think>\n\nIt is 4."
ANSWERS = {"markdown": MARKDOWN, "attack": HOSTILE, "think": THOUGHT}
TOP_LOGPROBS = 3
# What "weather" calls: names, and arguments that come bit by bit.
OPTIONS = {"unit": "celsius", "source": "a station nearby", "hours": [6, 12, 18]}
CALLS = (
    ("get_weather", json.dumps({"city": "Zürich <b>", "days": [1, 2], "options": OPTIONS})),
    ("get_time", "{}"),
)


@dataclass
class FakeState:
    """What the server was asked, and how it is to behave."""

    key: str | None = None
    has_chat_template: bool = True
    requests: list[dict[str, Any]] = field(default_factory=list)
    disconnects: int = 0
    refuse: tuple[int, str, dict[str, str]] | None = None
    snapshots: int = 0


def make_tokens(text: str) -> list[dict[str, Any]]:
    """The text in pieces, each less likely than the one before it, and likely again after six."""
    tokens = []
    for index, piece in enumerate(re.findall(r"\s?[^\s]{1,6}|\s", text)):
        probability = (0.95, 0.7, 0.4, 0.2, 0.05, 0.01)[index % 6]
        others = [("other", (1 - probability) * 0.6), (" word", (1 - probability) * 0.3)]
        top = sorted([(piece, probability), *others], key=lambda item: -item[1])
        tokens.append(
            {
                "token": piece,
                "bytes": list(piece.encode()),
                "logprob": math.log(probability),
                "top_logprobs": [{"token": t, "logprob": math.log(p)} for t, p in top],
            }
        )
    return tokens


def make_app(state: FakeState) -> FastAPI:
    app = FastAPI()
    app.include_router(page_router())

    @app.middleware("http")
    async def check(request: Request, call_next: Any) -> Response:
        if request.url.path.startswith("/v1/") and state.key is not None:
            if request.headers.get("authorization") != f"Bearer {state.key}":
                return JSONResponse({"error": {"message": "a key is needed"}}, 401)
        answer: Response = await call_next(request)
        return answer

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        extra = {"max_context_tokens": 1024, "has_chat_template": state.has_chat_template}
        return {"object": "list", "data": [{"id": "demo", "object": "model", **extra}]}

    @app.get("/v1/engine")
    async def engine() -> dict[str, Any]:
        state.snapshots += 1
        return make_snapshot(state.snapshots)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = await request.json()
        state.requests.append(body)
        if state.refuse is not None:
            status, message, headers = state.refuse
            return JSONResponse({"error": {"message": message}}, status, headers)
        asked = body["messages"][-1]["content"]
        seed = body.get("seed")
        if asked == "weather":
            return StreamingResponse(call_events(), media_type="text/event-stream")
        text = ANSWERS.get(asked, f"You said {asked}. Seed {seed}, turn {len(state.requests)}.")

        async def events() -> AsyncIterator[str]:
            tokens = make_tokens(text)
            sent = 0
            try:
                while asked == "forever" or sent < len(tokens):
                    token = tokens[sent % len(tokens)]
                    sent += 1
                    choice = {"index": 0, "delta": {"content": token["token"]}}
                    if body.get("logprobs"):
                        choice["logprobs"] = {"content": [token]}
                    yield event({"choices": [choice]})
                    await asyncio.sleep(0.002)
                yield event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
                yield event({"choices": [], "usage": {"completion_tokens": sent}})
                yield "data: [DONE]\n\n"
            except asyncio.CancelledError:
                state.disconnects += 1
                raise

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        body = await request.json()
        state.requests.append(body)

        async def events() -> AsyncIterator[str]:
            for token in make_tokens("    if n < 2:\n        return n\n    return 1"):
                top = {item["token"]: item["logprob"] for item in token["top_logprobs"]}
                logprobs = {
                    "tokens": [token["token"]],
                    "token_logprobs": [token["logprob"]],
                    "top_logprobs": [top],
                }
                yield event({"choices": [{"text": token["token"], "logprobs": logprobs}]})
            yield event({"choices": [{"text": "", "finish_reason": "length"}]})
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return app


async def call_events() -> AsyncIterator[str]:
    def delta(**fields: Any) -> str:
        return event({"choices": [{"index": 0, "delta": fields}]})

    yield delta(content="Let me look.")
    for index, (name, arguments) in enumerate(CALLS):
        head = {"index": index, "id": f"call_{index}", "type": "function"}
        yield delta(tool_calls=[{**head, "function": {"name": name, "arguments": ""}}])
        for start in range(0, len(arguments), 7):
            await asyncio.sleep(0.002)
            part = {"arguments": arguments[start : start + 7]}
            yield delta(tool_calls=[{"index": index, "function": part}])
    yield event({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    yield event({"choices": [], "usage": {"completion_tokens": 40}})
    yield "data: [DONE]\n\n"


def event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"


def make_snapshot(count: int) -> dict[str, Any]:
    pages = "a" * (20 + count % 7) + "s" * 12 + "c" * 60
    pages = (pages + "f" * 512)[:512]
    names = {"f": "free", "a": "active", "s": "shared", "c": "cached"}
    return {
        "model": "demo",
        "page_size_tokens": 32,
        "num_pages": 512,
        "pages": pages,
        **{f"num_{name}_pages": pages.count(letter) for letter, name in names.items()},
        "num_waiting": count % 3,
        "num_running": 3,
        "max_sequences": 64,
        "max_waiting": 256,
        "counters": {
            "prompt_tokens": 900 * count,
            "output_tokens": 120 * count + 30 * (count % 4),
            "finished": 7 * count,
            "aborted": 2,
            "preemptions": 1,
            "prefix_hit_tokens": 400 * count,
            "proposed_tokens": 100 * count,
            "accepted_tokens": 63 * count,
        },
        "ttft_s": {"p50": 0.08 + 0.01 * (count % 5), "p90": 0.2},
        "tpot_s": {"p50": 0.01, "p90": 0.02},
        "requests": [
            {
                "id": f"chatcmpl-{number}",
                "state": "decode",
                "num_prompt_tokens": 120,
                "num_output_tokens": 40 * number + count,
                "num_pages": 5,
            }
            for number in range(1, 4)
        ],
    }


@contextmanager
def serve(app: FastAPI) -> Iterator[str]:
    """The app on a free port of this machine, in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
