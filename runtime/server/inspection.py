"""`/v1/engine` and `/v1/requests/{id}`: what the engine does, and where a request's time went."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from ingot.runtime.engine_stats import PageState
from ingot.runtime.server.generation import Generation
from ingot.runtime.server.middleware import KEY_NAME
from ingot.runtime.server.sse import STREAMED, Event, EventStream
from ingot.runtime.server.state import ServerState, get_state

PAGE_LETTERS = {
    PageState.FREE: "f",
    PageState.USED: "a",
    PageState.SHARED: "s",
    PageState.CACHED: "c",
}
_LETTERS = bytes.maketrans(bytes(PAGE_LETTERS), "".join(PAGE_LETTERS.values()).encode())
MAX_SHOWN_REQUESTS = 200

router = APIRouter()


@router.get("/v1/engine", responses={200: STREAMED})
async def show_engine(
    request: Request,
    stream: bool = False,
    interval_s: Annotated[float, Query(ge=0.1, le=60)] = 1.0,
) -> Response:
    """The engine now, or again and again as server-sent events. `pages` has a letter for each page
    of the KV cache: f(ree), a(ctive), s(hared), c(ached)."""
    state = get_state(request)
    if not stream:
        return JSONResponse(describe_engine(state, request.scope[KEY_NAME]))
    return EventStream(
        watch_engine(state, request.scope[KEY_NAME], interval_s),
        write_timeout_s=state.settings.write_timeout_s,
    )


async def watch_engine(
    state: ServerState, key_name: str, interval_s: float
) -> AsyncGenerator[Event, None]:
    while not state.lifecycle.is_draining:
        yield describe_engine(state, key_name)
        await asyncio.sleep(interval_s)


def describe_engine(state: ServerState, key_name: str) -> dict[str, Any]:
    stats = state.engine.stats()
    counters = stats.counters
    recent = state.recent
    limits = state.engine.limits
    status = "draining" if state.lifecycle.is_draining else "ok"
    return {
        "object": "engine",
        "model": state.model_name,
        "status": status if state.engine.failure is None else "failed",
        "failure": state.engine.failure,
        "max_sequences": limits.max_sequences,
        "max_step_tokens": limits.max_step_tokens,
        "max_waiting": limits.max_waiting,
        "max_context_tokens": state.max_context_tokens,
        "page_size_tokens": state.engine.model_info.page_size_tokens,
        "num_running": stats.num_running,
        "num_waiting": stats.num_waiting,
        "num_pages": stats.num_pages,
        "num_free_pages": stats.num_free_pages,
        "num_active_pages": stats.num_used_pages,
        "num_shared_pages": stats.num_shared_pages,
        "num_cached_pages": stats.num_cached_pages,
        "pages": stats.page_map.translate(_LETTERS).decode("ascii"),
        "output_tokens_per_s": recent.output_tokens_per_s,
        "ttft_s": recent.ttft_percentiles(),
        "tpot_s": recent.tpot_percentiles(),
        "acceptance_rate": _share(counters.num_accepted_tokens, counters.num_proposed_tokens),
        "counters": {
            "steps": counters.num_steps,
            "requests": counters.num_requests,
            "finished": counters.num_finished,
            "aborted": state.num_cancelled,
            "preemptions": counters.num_preemptions,
            "prompt_tokens": counters.num_prompt_tokens,
            "output_tokens": counters.num_output_tokens,
            "prefix_hit_tokens": counters.num_prefix_hit_tokens,
            "proposed_tokens": counters.num_proposed_tokens,
            "accepted_tokens": counters.num_accepted_tokens,
        },
        "requests": [
            describe_running(state, generation, key_name)
            for generation in list(state.running.values())[:MAX_SHOWN_REQUESTS]
        ],
    }


def describe_running(state: ServerState, generation: Generation, key_name: str) -> dict[str, Any]:
    """Another key's requests are shown without the id that would open their trace."""
    num_prompt = generation.trace.num_prompt_tokens
    num_tokens = num_prompt + generation.num_output_tokens
    is_own = generation.trace.key_name == key_name
    return {
        "id": generation.id if is_own else f"{generation.id.partition('-')[0]}-…",
        "state": "running" if generation.has_begun else "waiting",
        "num_prompt_tokens": num_prompt,
        "num_output_tokens": generation.num_output_tokens,
        "num_pages": -(-num_tokens // state.engine.model_info.page_size_tokens),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


@router.get("/v1/requests/{request_id}")
async def show_request(request_id: str, request: Request) -> Response:
    """One of the latest requests: waiting, reading its prompt, generating, and what the prefix
    cache and speculation saved."""
    trace = get_state(request).traces.find(request_id, request.scope[KEY_NAME])
    return JSONResponse(trace.as_json())
