"""`/health`, `/ready` and `/metrics`: what those who run the server ask it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

from ingot.runtime.server.schemas.replies import StatusReply
from ingot.runtime.server.state import get_state

router = APIRouter()


def _status(status: str, detail: str | None = None, *, ok: bool) -> JSONResponse:
    body: StatusReply = {"status": status}
    if detail is not None:
        body["detail"] = detail
    return JSONResponse(body, 200 if ok else 503)


@router.get("/health", response_model=StatusReply)
async def health(request: Request) -> Response:
    """Whether the engine runs. If it doesn't, only a new start helps."""
    failure = get_state(request).engine.failure
    return _status("ok", ok=True) if failure is None else _status("failed", failure, ok=False)


@router.get("/ready", response_model=StatusReply)
async def ready(request: Request) -> Response:
    """Whether new requests are taken: not while the server shuts down."""
    state = get_state(request)
    if state.engine.failure is not None:
        return _status("failed", state.engine.failure, ok=False)
    if state.lifecycle.is_draining:
        return _status("draining", ok=False)
    return _status("ready", ok=True)


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Prometheus' text format."""
    return Response(get_state(request).metrics.render(), media_type=CONTENT_TYPE_LATEST)
