"""Turns one planned request into a record of when each piece of its answer arrived."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from ingot.bench.serve.workload import PlannedRequest
from ingot.errors import IngotError

Endpoint = Literal["completions", "chat"]
PATHS: Mapping[Endpoint, str] = {
    "completions": "/v1/completions",
    "chat": "/v1/chat/completions",
}
# done: answered in full; cancelled: by us; refused: 429 or 503; failed: all else
Outcome = Literal["done", "cancelled", "refused", "failed"]
REFUSALS = (429, 503)
NUM_POOLS = 32


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where and how a server is asked. `extra` is added to each body."""

    url: str
    model: str
    endpoint: Endpoint = "completions"
    api_key: str | None = None
    extra: Mapping[str, Any] | None = None
    timeout_s: float = 300.0

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    @property
    def path(self) -> str:
        return self.url.rstrip("/") + PATHS[self.endpoint]

    def body(self, request: PlannedRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            **(self.extra or {}),
        }
        if self.endpoint == "chat":
            return {**body, "messages": [{"role": "user", "content": request.prompt}]}
        return {**body, "prompt": request.prompt}


@dataclass(frozen=True, slots=True)
class Record:
    """One request as its client saw it. Times in seconds since the load began.

    due_s      when the schedule wanted it sent; later than that, the client itself was too slow
    piece_s    when each piece of text arrived, or the end of an answer without text; a piece may
               hold several tokens
    """

    outcome: Outcome
    due_s: float
    sent_s: float
    end_s: float
    piece_s: tuple[float, ...] = ()
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    error: str = ""
    request_id: str = ""  # the server's name for it

    @property
    def ttft_s(self) -> float | None:
        """From when it was due: waiting for a late client counts as waiting."""
        return self.piece_s[0] - self.due_s if self.piece_s else None

    @property
    def tpot_s(self) -> float | None:
        """Mean time from one token to the next, where there were at least two."""
        if self.num_output_tokens < 2 or len(self.piece_s) < 2:
            return None
        return (self.piece_s[-1] - self.piece_s[0]) / (self.num_output_tokens - 1)

    @property
    def gaps_s(self) -> tuple[float, ...]:
        """Between pieces, as a reader sees them: a long one is a stall."""
        return tuple(b - a for a, b in zip(self.piece_s, self.piece_s[1:], strict=False))


class DealtTransport(httpx.AsyncBaseTransport):
    """Deals requests to several pools of connections: a pool looks at all of its connections for
    each request, which is what a client with hundreds of them would mostly do."""

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        context = httpx.create_ssl_context(trust_env=False)
        self._pools = [httpx.AsyncHTTPTransport(context, limits=limits) for _ in range(NUM_POOLS)]
        self._next = itertools.cycle(self._pools)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await next(self._next).handle_async_request(request)

    async def aclose(self) -> None:
        for pool in self._pools:
            await pool.aclose()


def open_client(address: ServerAddress) -> httpx.AsyncClient:
    """One connection a request in flight, none of them shared or limited."""
    return httpx.AsyncClient(
        headers=address.headers,
        transport=DealtTransport(),
        timeout=httpx.Timeout(address.timeout_s, pool=None),
        trust_env=False,
    )


async def send(
    client: httpx.AsyncClient,
    address: ServerAddress,
    request: PlannedRequest,
    *,
    due_s: float,
    began: float,
    on_piece: Callable[[float], None] = lambda time_s: None,
) -> Record:
    """Ask, and read to the end, to the planned cancellation, or to what went wrong."""
    clock = time.perf_counter
    sent_s = clock() - began
    pieces: list[float] = []
    usage: dict[str, int] = {}
    outcome: Outcome = "failed"
    error = request_id = ""
    try:
        async with client.stream("POST", address.path, json=address.body(request)) as response:
            if response.status_code != 200:
                text = (await response.aread()).decode(errors="replace")
                outcome = "refused" if response.status_code in REFUSALS else "failed"
                error = f"{response.status_code}: {read_message(text)}"
            else:
                finished = False
                async for event in read_events(response):
                    if "error" in event:
                        error = read_message(json.dumps(event))
                        break
                    # An answer that spells nothing is there when it ends.
                    if has_text(event) or (has_finish(event) and not pieces):
                        pieces.append(clock() - began)
                        on_piece(pieces[-1])
                    usage = event.get("usage") or usage
                    request_id = event.get("id") or request_id
                    finished = finished or has_finish(event)
                    if request.cancel_after is not None and len(pieces) >= request.cancel_after:
                        outcome = "cancelled"
                        break
                else:
                    outcome = "done" if finished else "failed"
                    error = "" if finished else "the stream ended without a finish_reason"
    except (httpx.HTTPError, ValueError) as problem:
        error = f"{type(problem).__name__}: {problem}"
    return Record(
        outcome,
        due_s,
        sent_s,
        clock() - began,
        tuple(pieces),
        usage.get("prompt_tokens", 0),
        # a server that doesn't count is taken to send a token a piece
        usage.get("completion_tokens", len(pieces)),
        error,
        request_id,
    )


async def read_events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The JSON of each server-sent event, until `[DONE]`."""
    async for line in response.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            return
        yield json.loads(data)


def has_text(event: Mapping[str, Any]) -> bool:
    """Whether an event brings something that a reader sees."""
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or {}
        if choice.get("text") or delta.get("content") or delta.get("tool_calls"):
            return True
    return False


def has_finish(event: Mapping[str, Any]) -> bool:
    return any(choice.get("finish_reason") for choice in event.get("choices") or ())


def read_message(text: str) -> str:
    """The sentence in an error's body, or the beginning of whatever it is."""
    try:
        error = json.loads(text)["error"]
        return str(error["message"] if isinstance(error, dict) else error)[:300]
    except (ValueError, KeyError, TypeError):
        return text[:300]


async def find_model(url: str, api_key: str | None) -> str:
    """The first model that the server lists."""
    address = ServerAddress(url, "", api_key=api_key, timeout_s=30)
    async with open_client(address) as client:
        try:
            response = await client.get(url.rstrip("/") + "/v1/models")
        except httpx.HTTPError as error:
            raise IngotError(
                f"{url} can't be reached ({type(error).__name__}: {error})",
                "start a server first: ingot serve ARTIFACT",
            ) from error
        if response.status_code != 200:
            raise IngotError(
                f"{url} answered {response.status_code}: {read_message(response.text)}",
                "give the key by --api-key or INGOT_API_KEY" if response.status_code == 401 else "",
            )
        try:
            return str(response.json()["data"][0]["id"])
        except (ValueError, KeyError, IndexError, TypeError):
            raise IngotError(f"{url} has no list of models at /v1/models; name one") from None


async def calibrate(address: ServerAddress, num_words: int = 64) -> float:
    """Words a prompt token, by the server's own count of a prompt of `num_words` words."""
    import numpy as np

    from ingot.bench.serve.workload import make_text

    counts = []
    async with open_client(address) as client:
        for words in (num_words, 2 * num_words):
            rng = np.random.default_rng(words)
            probe = PlannedRequest(make_text(rng, words), max_tokens=1)
            record = await send(client, address, probe, due_s=0.0, began=time.perf_counter())
            if record.outcome != "done":
                raise IngotError(f"a first request to {address.path} failed: {record.error}")
            if not record.num_prompt_tokens:
                raise IngotError(
                    f"{address.path} doesn't say how many tokens a prompt has (`usage`), so "
                    "prompts of a length can't be made for it"
                )
            counts.append(record.num_prompt_tokens)
    # the difference: a template's own tokens and a first token don't count
    return num_words / max(1, counts[1] - counts[0])
