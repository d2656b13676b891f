"""An OpenAI-compatible server that counts words as tokens and does what a test tells it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from tests.page.fake_server import serve

NUM_PAGES = 100
NOT_TAKEN = {"n", "top_p", "stop", "response_format"}


@dataclass
class FakeServer:
    """`pages` are held by no request: a leak. Every `refuse_every`-th request meets a 429."""

    url: str = ""
    token_s: float = 0.001
    first_token_s: float = 0.005
    refuse_every: int = 0
    break_after: int | None = None  # pieces, and then the connection is closed
    text: str = "a"  # of each token
    leaked_pages: int = 0
    has_usage: bool = True
    bodies: list[dict[str, Any]] = field(default_factory=list)
    num_running: int = 0
    max_running: int = 0
    num_cancelled: int = 0
    bad_status: int = 400
    step_s: float = 0.02  # the longest, by its traces
    stall_s: float = 0.015
    has_traces: bool = True


def make_app(fake: FakeServer) -> FastAPI:
    app = FastAPI()

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"data": [{"id": "fake"}]}

    @app.get("/v1/engine")
    async def engine() -> Response:
        if not fake.has_traces:
            return Response(status_code=404)
        return JSONResponse(describe_engine())

    def describe_engine() -> dict[str, Any]:
        return {
            "max_step_tokens": 20,
            "num_running": fake.num_running,
            "num_waiting": 0,
            "num_pages": NUM_PAGES,
            "num_free_pages": NUM_PAGES - fake.leaked_pages,
            "num_active_pages": fake.leaked_pages,
            "num_shared_pages": 0,
            "num_cached_pages": 0,
        }

    @app.post("/tokenize")
    async def tokenize() -> dict[str, Any]:
        return {"tokens": [3, 7]}

    @app.get("/v1/requests/{request_id}")
    async def trace(request_id: str) -> dict[str, Any]:
        assert 0 < int(request_id) <= len(fake.bodies)
        times = {"tpot_s": 0.001, "longest_step_s": fake.step_s, "longest_stall_s": fake.stall_s}
        return {"outputs": [times]}

    def refuse(status: int) -> Response:
        return JSONResponse({"error": {"message": "no"}}, status)

    @app.post("/v1/completions")
    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        try:
            body = json.loads(await request.body())
            prompt = body.get("prompt") or body["messages"][0]["content"]
            num_words = len(prompt.split())
            bad = num_words > 10_000 or set(body) & NOT_TAKEN
            bad = bad or not all(map(str.isdecimal, body.get("logit_bias", ())))
            bad = bad or not 0 < body["max_tokens"] < 1000 or body["model"] != "fake"
            temperature = body.get("temperature", 0)
            if bad or not isinstance(temperature, int | float) or temperature < 0:
                return refuse(fake.bad_status)
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            return refuse(fake.bad_status)
        fake.bodies.append(body)
        if fake.refuse_every and len(fake.bodies) % fake.refuse_every == 0:
            return refuse(429)
        is_chat = "messages" in body
        return StreamingResponse(answer(fake, body["max_tokens"], num_words, is_chat))

    return app


async def answer(
    fake: FakeServer, num_tokens: int, num_words: int, is_chat: bool
) -> AsyncIterator[str]:
    name = str(len(fake.bodies))

    def event(choices: list[dict[str, Any]], **more: Any) -> str:
        return f"data: {json.dumps({'id': name, 'choices': choices, **more})}\n\n"

    fake.num_running += 1
    fake.max_running = max(fake.max_running, fake.num_running)
    sent = 0
    try:
        await asyncio.sleep(fake.first_token_s)
        for sent in range(1, num_tokens + 1):
            piece: dict[str, Any] = (
                {"delta": {"content": fake.text}} if is_chat else {"text": fake.text}
            )
            finish = "length" if sent == num_tokens else None
            yield event([{**piece, "finish_reason": finish}])
            if sent == fake.break_after:
                return
            await asyncio.sleep(fake.token_s)
        if fake.has_usage:
            usage = {"prompt_tokens": num_words + 5, "completion_tokens": num_tokens}
            yield event([], usage=usage)
        yield "data: [DONE]\n\n"
    finally:
        fake.num_running -= 1
        fake.num_cancelled += sent < num_tokens


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    state = FakeServer()
    with serve(make_app(state)) as url:
        state.url = url
        yield state
