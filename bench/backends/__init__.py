"""Turns the name of a backend into the backend; nothing is imported before it is asked for."""

import importlib
from typing import cast

from ingot.bench.backends.base import Backend
from ingot.errors import UsageError

# name -> "module:Class", in the order of the tables
BACKENDS = {
    "compiled": "ingot.bench.backends.compiled:CompiledBackend",
    "eager": "ingot.bench.backends.eager:EagerBackend",
    "torch-compile": "ingot.bench.backends.torch_compile:TorchCompileBackend",
    "onnxruntime": "ingot.bench.backends.onnxruntime:OnnxRuntimeBackend",
}


def check_backend_name(name: str) -> None:
    """Accept a name of BACKENDS, or `module:Class` for a backend that isn't part of Ingot."""
    if name not in BACKENDS and ":" not in name:
        raise UsageError(
            f"no backend is called {name!r}; there are {', '.join(BACKENDS)}",
            hint="a backend of your own is named as module:Class",
        )


def create_backend(name: str) -> Backend:
    check_backend_name(name)
    module, _, attribute = BACKENDS.get(name, name).partition(":")
    return cast(Backend, getattr(importlib.import_module(module), attribute)())
