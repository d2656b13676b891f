"""Turns an engine and settings into a web application that speaks OpenAI's API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from ingot.errors import RequestError, UsageError
from ingot.runtime.chat_template import ChatTemplate
from ingot.runtime.server import (
    chat,
    completions,
    embeddings,
    health,
    inspection,
    models,
    tokens,
)
from ingot.runtime.server.auth import KeyRing
from ingot.runtime.server.engine import ServingEngine
from ingot.runtime.server.errors import ErrorBody, add_error_handlers
from ingot.runtime.server.lifecycle import Lifecycle
from ingot.runtime.server.metrics import Metrics
from ingot.runtime.server.middleware import Gate, HttpMetrics
from ingot.runtime.server.page import page_router
from ingot.runtime.server.recent import Recent
from ingot.runtime.server.sampling import read_defaults
from ingot.runtime.server.settings import ServerSettings
from ingot.runtime.server.state import ServerState
from ingot.runtime.server.tool_formats import detect_format, find_format
from ingot.runtime.server.traces import TraceStore

DESCRIPTION = "OpenAI's API, and a few endpoints of Ingot's own. docs/serving.md explains them."
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in (
        (400, "The request makes no sense; the message says why"),
        (401, "No key, or a wrong one"),
        (404, "No such model, request or route"),
        (408, "The body came too slowly"),
        (413, "The body is too large"),
        (421, "The server has another name"),
        (429, "The queue is full; Retry-After says when to come again"),
        (500, "The engine failed"),
        (501, "Not served by this artifact"),
        (503, "The server is shutting down"),
    )
}


def create_state(
    engine: ServingEngine, settings: ServerSettings, generation_config: dict[str, Any]
) -> ServerState:
    """What the routes share. Raises UsageError if the settings and the model don't fit."""
    tokenizer = engine.tokenizer
    own = tokenizer.chat_template
    source = own if settings.chat_template is None else settings.chat_template
    try:
        template = None if source is None else ChatTemplate(source, tokenizer.special_tokens)
    except RequestError as error:
        raise UsageError(str(error)) from None
    tool_format = None if source is None else detect_format(source)
    if settings.tool_parser is not None:
        tool_format = find_format(settings.tool_parser)
    manifest = engine.model_info
    return ServerState(
        engine=engine,
        settings=settings,
        model_names=settings.model_names or (manifest.model.name,),
        keys=KeyRing(settings.api_keys),
        lifecycle=Lifecycle(),
        metrics=Metrics(engine.stats, lambda: engine.failure is None),
        traces=TraceStore(settings.num_traces),
        recent=Recent(),
        defaults=read_defaults(generation_config),
        template=template,
        takes_tools=source is not None and "tools" in source,
        tool_format=tool_format,
        token_bytes=tokenizer.token_bytes,
        fingerprint=f"ingot-{manifest.ingot_version}-{manifest.scheme.name}",
    )


def create_app(state: ServerState) -> FastAPI:
    app = FastAPI(
        title="Ingot",
        description=DESCRIPTION,
        version=state.engine.model_info.ingot_version,
        docs_url=None,  # both pages load their scripts from elsewhere
        redoc_url=None,
        responses=ERRORS,
        separate_input_output_schemas=False,
    )
    app.state.ingot = state
    add_error_handlers(app)
    for part in (chat, completions, embeddings, tokens, models, inspection, health):
        app.include_router(part.router)
    app.include_router(page_router())
    app.add_middleware(Gate, settings=state.settings, keys=state.keys, lifecycle=state.lifecycle)
    if state.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(state.settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    app.add_middleware(HttpMetrics, metrics=state.metrics)  # the outermost, so that it sees all
    return app


def read_generation_config(artifact: Path) -> dict[str, Any]:
    """Empty without the file: it is optional."""
    path = artifact / "generation_config.json"
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error})") from None
    return record if isinstance(record, dict) else {}
