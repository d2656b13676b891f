"""Ingot turns Hugging Face language models into compiled artifacts, and artifacts into text.

Names load when they are first used: `import ingot` costs next to nothing, and an application that
embeds the runtime never pays for the compiler.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingot.compile.api import CompileResult as CompileResult
    from ingot.compile.api import compile_model as compile_model
    from ingot.errors import IngotError as IngotError
    from ingot.runtime.async_engine import AsyncEngine as AsyncEngine
    from ingot.runtime.engine import Engine as Engine
    from ingot.runtime.outputs import Chunk as Chunk
    from ingot.runtime.outputs import Completion as Completion
    from ingot.runtime.request_options import RequestOptions as RequestOptions
    from ingot.runtime.sampling_params import SamplingParams as SamplingParams

__version__ = "0.1.0"

_HOMES = {
    "AsyncEngine": "ingot.runtime.async_engine",
    "Chunk": "ingot.runtime.outputs",
    "CompileResult": "ingot.compile.api",
    "Completion": "ingot.runtime.outputs",
    "Engine": "ingot.runtime.engine",
    "IngotError": "ingot.errors",
    "RequestOptions": "ingot.runtime.request_options",
    "SamplingParams": "ingot.runtime.sampling_params",
    "compile_model": "ingot.compile.api",
}

__all__ = [
    "AsyncEngine",
    "Chunk",
    "CompileResult",
    "Completion",
    "Engine",
    "IngotError",
    "RequestOptions",
    "SamplingParams",
    "__version__",
    "compile_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
