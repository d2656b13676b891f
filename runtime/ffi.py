"""Turns the installed TVM into its runtime libraries alone: no `tvm` package, no compiler library.

`import tvm` maps the compiler (259 MB); its runtime is two small libraries that stand on
`apache-tvm-ffi`. And `import tvm_ffi` imports torch and NVIDIA's bindings wherever they are
installed, which costs seconds and hundreds of megabytes: here it is made to believe that there are
none, unless the application has them already.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from ingot.errors import IngotError


class _HiddenFrom(MetaPathFinder):
    """Makes some modules impossible to import, for one thread only."""

    def __init__(self, names: Sequence[str], thread_id: int) -> None:
        self.names = names
        self.thread_id = thread_id

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in self.names and threading.get_ident() == self.thread_id:
            raise ModuleNotFoundError(f"{fullname} is hidden", name=fullname)
        return None


@contextmanager
def _hidden(*names: str) -> Iterator[None]:
    finder = _HiddenFrom(names, threading.get_ident())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


# What is already imported stays visible: `import` finds it in sys.modules.
with _hidden("torch", "cuda"):
    import tvm_ffi


def find_tvm_libraries() -> Path:
    """The folder of the installed TVM's libraries, found without importing `tvm`."""
    spec = find_spec("tvm")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "lib"
        if (folder / "libtvm_runtime.so").exists():
            return folder
    raise IngotError(
        "TVM's runtime library is not installed",
        hint="pip install 'apache-tvm==0.27.*' 'apache-tvm-ffi>=0.1.14.post0,<0.1.15'",
    )


@cache
def load_tvm_runtime() -> None:
    """Map TVM's runtime into the process once. Where `tvm` is imported already, it is there."""
    folder = find_tvm_libraries()
    # RTLD_GLOBAL: an artifact's code finds the runtime's symbols by name.
    ctypes.CDLL(str(folder / "libtvm_runtime.so"), mode=ctypes.RTLD_GLOBAL)


__all__ = ["find_tvm_libraries", "load_tvm_runtime", "tvm_ffi"]
