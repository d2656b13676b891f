"""Turns what a writer makes of a generation into one answer, whole or as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol

from fastapi import Request
from starlette.responses import JSONResponse, Response

from ingot.runtime.server.disconnect import while_connected
from ingot.runtime.server.generation import Generation
from ingot.runtime.server.schemas.sampling import SamplingBody
from ingot.runtime.server.sse import Event, EventStream
from ingot.runtime.server.state import get_state


class Writer(Protocol):
    async def reply(self) -> Mapping[str, Any]:
        """All of the answer."""

    def events(self, *, include_usage: bool) -> AsyncGenerator[Event, None]:
        """The answer as it comes."""


async def answer(
    request: Request, body: SamplingBody, generation: Generation, writer: Writer
) -> Response:
    headers = {"x-request-id": generation.id}
    if not body.stream:
        return JSONResponse(await while_connected(request, writer.reply()), headers=headers)
    options = body.stream_options
    return EventStream(
        writer.events(include_usage=options is not None and bool(options.include_usage)),
        write_timeout_s=get_state(request).settings.write_timeout_s,
        headers=headers,
        is_accepted=generation.is_accepted,
    )
