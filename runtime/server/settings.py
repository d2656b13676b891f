"""What the operator of a server decides, as one checked value."""

from __future__ import annotations

from dataclasses import dataclass

from ingot.errors import UsageError
from ingot.runtime.request_options import POOLING_KINDS, PoolingKind

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How requests are admitted and answered. The defaults are those of `ingot serve`.

    model_names         what clients may call the model; the first is its name in answers, none
                        takes the name in the manifest
    api_keys            one of them must come with each request; none for no keys
    cors_origins        web origins whose pages may use the server, "*" for all, none for none
    allowed_hosts       names that the Host header may have, none for any
    max_body_bytes      larger bodies are refused with 413
    body_timeout_s      slower bodies are refused with 408
    write_timeout_s     a client that reads nothing for so long is given up, its request aborted
    max_choices         prompts times `n` of one request
    request_timeout_s   a request ends after this time, None for never
    drain_s             how long running requests may take after SIGTERM
    chat_template       Jinja text used instead of the model's own
    tool_parser         name of the format of tool calls, None to tell it from the chat template
    pooling             what embeddings are made of if not said: the "last" token or the "mean"
    num_traces          how many requests `/v1/requests/{id}` remembers
    """

    model_names: tuple[str, ...] = ()
    api_keys: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    max_body_bytes: int = 4 << 20
    body_timeout_s: float = 30.0
    write_timeout_s: float = 60.0
    max_choices: int = 128
    request_timeout_s: float | None = None
    drain_s: float = 30.0
    chat_template: str | None = None
    tool_parser: str | None = None
    pooling: PoolingKind = "last"
    num_traces: int = 1000

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "body_timeout_s", "write_timeout_s", "max_choices"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it is above 0")
        for name in ("drain_s", "num_traces"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it is 0 or more")
        if self.pooling not in POOLING_KINDS:
            raise UsageError(
                f"pooling is {self.pooling!r}; it is one of {', '.join(POOLING_KINDS)}"
            )
        for origin in self.cors_origins:
            if origin != "*" and not origin.startswith(("http://", "https://")):
                raise UsageError(
                    f"the CORS origin is {origin!r}; it is * or begins with http:// or https://"
                )
