"""`ingot serve`: an artifact to a web server that speaks OpenAI's API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingot.cli.options import Artifact, Draft, Speculate, Threads
from ingot.runtime.limits import DEFAULT_MAX_SEQUENCES, DEFAULT_MAX_STEP_TOKENS
from ingot.runtime.server.settings import ServerSettings

DEFAULTS = ServerSettings()  # a few numbers; what serves is imported when it does


def serve(
    artifact: Artifact,
    host: Annotated[str, typer.Option(help="Address; 0.0.0.0 for all networks.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    served_name: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What clients call the model; repeatable."),
    ] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Take only requests with such a key; repeatable."),
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="Keys, one a line. [also: INGOT_API_KEYS, with commas]")
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Let pages of this origin in; repeatable, * for all."),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Answer to this Host header too; repeatable."),
    ] = None,
    chat_template: Annotated[
        str | None,
        typer.Option(metavar="FILE|plain", help="Jinja template instead of the model's own."),
    ] = None,
    tool_parser: Annotated[
        str | None,
        typer.Option(help="hermes, xml, mistral, pythonic or llama3. [default: by the template]"),
    ] = None,
    pooling: Annotated[
        str,
        typer.Option(metavar="last|mean", help="What embeddings are made of, if not said."),
    ] = DEFAULTS.pooling,
    threads: Threads = None,
    max_sequences: Annotated[
        int, typer.Option(min=1, help="Requests that run at the same time.")
    ] = DEFAULT_MAX_SEQUENCES,
    max_step_tokens: Annotated[
        int,
        typer.Option(min=1, help="Tokens of one step: how long a long prompt may hold others up."),
    ] = DEFAULT_MAX_STEP_TOKENS,
    max_waiting: Annotated[
        int | None, typer.Option(min=0, help="Requests that wait; more are answered 429.")
    ] = 256,
    kv_pages: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Pages of the KV cache. [default: what --max-sequences full contexts take, "
            "within a quarter of the memory]",
        ),
    ] = None,
    kv_memory_mb: Annotated[int | None, typer.Option(min=1, help="The same in megabytes.")] = None,
    speculate: Speculate = False,
    draft: Draft = None,
    max_body_kb: Annotated[
        int, typer.Option(min=1, help="Larger bodies get 413.")
    ] = DEFAULTS.max_body_bytes // 1024,
    max_choices: Annotated[
        int, typer.Option(min=1, help="Prompts times n of one request, at most.")
    ] = DEFAULTS.max_choices,
    request_timeout: Annotated[
        float | None,
        typer.Option(min=0.001, help="Seconds after which a request is cut off. [default: none]"),
    ] = DEFAULTS.request_timeout_s,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="How long SIGTERM waits for running requests.")
    ] = DEFAULTS.drain_s,
    replicas: Annotated[
        int | None,
        typer.Option(
            min=1, help="Engines on Ray Serve, here or at RAY_ADDRESS. [default: one, without Ray]"
        ),
    ] = None,
    max_replicas: Annotated[
        int | None,
        typer.Option(min=1, help="Add replicas up to this many as they are needed."),
    ] = None,
    target_requests: Annotated[
        float,
        typer.Option(min=0.1, help="Requests a replica has at a time before one is added."),
    ] = 16.0,
    scale_up_after: Annotated[
        float, typer.Option(min=0, help="Seconds of more requests before a replica is added.")
    ] = 10.0,
    scale_down_after: Annotated[
        float, typer.Option(min=0, help="Seconds of fewer before one is taken away.")
    ] = 300.0,
) -> None:
    """Serve an artifact over HTTP, with OpenAI's API and a page at /.

    \b
      ingot serve artifacts/demo
      ingot serve artifacts/qwen --port 9000 --api-key s3cret-key --served-name qwen

    The openai client works unchanged, with base_url http://HOST:PORT/v1.
    """
    import asyncio

    from ingot.environment import read_variable
    from ingot.errors import UsageError
    from ingot.runtime.async_engine import AsyncEngine, EngineOptions
    from ingot.runtime.server.auth import read_keys
    from ingot.runtime.server.plain_template import read_template
    from ingot.runtime.server.serve import (
        Address,
        StartEngine,
        announce_on_stderr,
        own_hosts,
        run_server,
    )

    address = Address(host, port)
    settings = ServerSettings(
        model_names=tuple(served_name or ()),
        api_keys=read_keys(api_key or (), api_key_file, read_variable("INGOT_API_KEYS")),
        cors_origins=tuple(cors_origin or ()),
        allowed_hosts=own_hosts(address, tuple(allowed_host or ())),
        max_body_bytes=max_body_kb * 1024,
        max_choices=max_choices,
        request_timeout_s=request_timeout,
        drain_s=drain_seconds,
        chat_template=None if chat_template is None else read_template(chat_template),
        tool_parser=tool_parser,
        pooling=pooling,  # type: ignore[arg-type]  # checked there
    )
    given = {
        "num_threads": threads or read_variable("INGOT_NUM_THREADS"),
        "max_sequences": max_sequences,
        "max_step_tokens": max_step_tokens,
        "max_waiting": max_waiting,
        "num_pages": kv_pages,
        "kv_memory_bytes": None if kv_memory_mb is None else kv_memory_mb << 20,
        "speculation": "prompt-lookup" if speculate else None,
        "draft": draft,
    }
    # What isn't given takes the engine's default, which is written there and nowhere else.
    options = EngineOptions(**{k: v for k, v in given.items() if v is not None})  # type: ignore[typeddict-item]
    start: StartEngine = AsyncEngine.start
    if replicas is not None:
        from ingot.runtime.server.ray_app import Scale, start_replicas

        start = start_replicas(
            Scale(replicas, max_replicas, target_requests, scale_up_after, scale_down_after)
        )
    elif max_replicas is not None:
        raise UsageError("--max-replicas needs --replicas, the fewest there are")
    asyncio.run(run_server(artifact, settings, address, options, announce_on_stderr, start))
