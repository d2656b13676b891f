"""What the server asks of an engine: the part of `AsyncEngine` that it uses."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from ingot.runtime.artifact.manifest import Manifest
from ingot.runtime.engine_stats import EngineStats
from ingot.runtime.limits import Limits
from ingot.runtime.outputs import Chunk
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampling_params import SamplingParams
from ingot.runtime.tokenizer import Tokenizer


class ServingEngine(Protocol):
    """`AsyncEngine`, or what stands for it in a test."""

    @property
    def failure(self) -> str | None: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def model_info(self) -> Manifest: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    def stats(self) -> EngineStats: ...

    def stream(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams | None = None,
        options: RequestOptions | None = None,
        on_accepted: Callable[[], None] | None = None,
    ) -> AsyncGenerator[Chunk, None]: ...

    async def close(self) -> None: ...
