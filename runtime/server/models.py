"""`/v1/models`: the one model that this server has, under each of its names."""

from __future__ import annotations

from fastapi import APIRouter, Request

from ingot.runtime.server.schemas.replies import ModelReply, ModelsReply
from ingot.runtime.server.state import ServerState, get_state

router = APIRouter()


def describe(state: ServerState, name: str) -> ModelReply:
    return {
        "id": name,
        "object": "model",
        "created": int(state.started_s),
        "owned_by": "ingot",
        "max_model_len": state.max_context_tokens,
        "max_context_tokens": state.max_context_tokens,
        "has_chat_template": state.template is not None,
        "tool_parser": state.tool_format.name if state.tool_format else None,
    }


@router.get("/v1/models")
async def list_models(request: Request) -> ModelsReply:
    """The models."""
    state = get_state(request)
    return {"object": "list", "data": [describe(state, name) for name in state.model_names]}


@router.get("/v1/models/{name:path}")
async def retrieve_model(name: str, request: Request) -> ModelReply:
    """One model; names may have slashes."""
    state = get_state(request)
    state.check_model(name)
    return describe(state, name)
