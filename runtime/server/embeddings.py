"""`/v1/embeddings`: not served yet, and says so."""

from __future__ import annotations

from fastapi import APIRouter, Request

from ingot.runtime.server.errors import ApiError
from ingot.runtime.server.schemas.other import EmbeddingBody
from ingot.runtime.server.schemas.replies import EmbeddingsReply
from ingot.runtime.server.state import get_state

router = APIRouter()


@router.post("/v1/embeddings")
async def create_embeddings(body: EmbeddingBody, request: Request) -> EmbeddingsReply:
    """Texts to vectors."""
    get_state(request).check_model(body.model)
    raise ApiError(
        501,
        "this artifact has no function for embeddings: its hidden states end before the last norm, "
        "which embedding models are trained with",
        code="no_embeddings",
    )
