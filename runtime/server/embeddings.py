"""`/v1/embeddings`: texts to vectors, the pooled last hidden states of the model."""

from __future__ import annotations

import base64
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from ingot.runtime.outputs import Chunk
from ingot.runtime.pooling import Floats, finish_embedding, take_embedding
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.server.disconnect import while_connected
from ingot.runtime.server.encoding import encode_prompts
from ingot.runtime.server.errors import ApiError, bad_request
from ingot.runtime.server.generation import Endpoint, Generation
from ingot.runtime.server.middleware import KEY_NAME
from ingot.runtime.server.schemas.other import EmbeddingBody
from ingot.runtime.server.schemas.replies import Embedding, EmbeddingsReply
from ingot.runtime.server.state import ServerState, get_state

EMBEDDINGS = Endpoint("embeddings", "embd")

router = APIRouter()


@router.post("/v1/embeddings", responses={200: {"model": EmbeddingsReply}})
async def create_embeddings(body: EmbeddingBody, request: Request) -> Response:
    """Embed one text or several."""
    state = get_state(request)
    state.check_model(body.model)
    check(body, state)
    key_name = request.scope[KEY_NAME]
    options = RequestOptions(
        pooling=body.pooling or state.settings.pooling,
        timeout_s=state.settings.request_timeout_s,
        cache_salt=f"{key_name}/",
    )
    prompts = await encode_prompts(state, body.input, param="input")
    generation = Generation(
        state, EMBEDDINGS, body.model, prompts, SamplingParams(), options, key_name
    )
    reply = await while_connected(request, embed(body, generation))
    return JSONResponse(reply, headers={"x-request-id": generation.id})


def check(body: EmbeddingBody, state: ServerState) -> None:
    step = state.engine.model_info.step
    if step.functions.embed is None:
        raise ApiError(
            501,
            "this artifact was compiled without a function for embeddings; compile the model again",
            code="no_embeddings",
        )
    if body.dimensions is not None and body.dimensions > step.hidden_size:
        raise bad_request(
            f"dimensions is {body.dimensions}; the model's embeddings have {step.hidden_size}",
            "dimensions",
        )


async def embed(body: EmbeddingBody, generation: Generation) -> dict[str, Any]:
    last: dict[int, Chunk] = {}
    async with aclosing(generation.chunks()) as chunks:
        async for index, chunk in chunks:
            last[index] = chunk
    data: list[Embedding] = []
    for index in sorted(last):
        vector = finish_embedding(
            take_embedding([last[index]]),
            normalize=body.normalize is not False,
            dimensions=body.dimensions,
        )
        written = encode(vector) if body.encoding_format == "base64" else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": written})
    usage = generation.usage()
    return {
        "object": "list",
        "data": data,
        "model": generation.frame()["model"],
        "usage": {name: usage[name] for name in ("prompt_tokens", "total_tokens")},
    }


def encode(vector: Floats) -> str:
    """Little-endian float32, as OpenAI's client reads it."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
