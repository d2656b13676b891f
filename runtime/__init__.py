"""The thin runtime: an artifact in, tokens out, with no torch and no compiler in the process.

Names load when they are first used: `ingot.compile` takes the manifest's schema from here and
should not pay for the engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingot.runtime.async_engine import AsyncEngine as AsyncEngine
    from ingot.runtime.engine import Engine as Engine
    from ingot.runtime.outputs import Chunk as Chunk
    from ingot.runtime.outputs import Completion as Completion
    from ingot.runtime.request_options import RequestOptions as RequestOptions
    from ingot.runtime.sampling_params import SamplingParams as SamplingParams

_HOMES = {
    "AsyncEngine": "ingot.runtime.async_engine",
    "Chunk": "ingot.runtime.outputs",
    "Completion": "ingot.runtime.outputs",
    "Engine": "ingot.runtime.engine",
    "RequestOptions": "ingot.runtime.request_options",
    "SamplingParams": "ingot.runtime.sampling_params",
}

__all__ = ["AsyncEngine", "Chunk", "Completion", "Engine", "RequestOptions", "SamplingParams"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
