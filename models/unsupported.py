"""Turns a construct that can't be imported into an error with its module and source line."""

import inspect
import re
import sys
import traceback
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import nn

from ingot.errors import UnsupportedModelError

_HINT = (
    "`ingot models` lists the families that are known to work. "
    "A construct that a new family needs goes into a capture rule or an adapter of ingot.models."
)


def _is_model_code(filename: str) -> bool:
    """True for transformers' model files and for remote code, which transformers keeps apart."""
    return "/transformers/models/" in filename or "/transformers_modules/" in filename


def _error(construct: str, module_path: str, line: str) -> UnsupportedModelError:
    where = f" in module `{module_path}`" if module_path else ""
    at = f" ({line})" if line else ""
    return UnsupportedModelError(f"the model can't be imported: {construct}{where}{at}", _HINT)


def unsupported(construct: str, module_path: str = "") -> UnsupportedModelError:
    """The error for a construct met while a model's forward runs; the line is the caller's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _is_model_code(frame.f_code.co_filename):
        frame = frame.f_back
    line = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""
    return _error(construct, module_path, line)


def unsupported_module(
    construct: str, module: nn.Module, module_path: str
) -> UnsupportedModelError:
    """The error for a module that is refused before it runs; the line is its class's."""
    line = ""
    try:
        lines, number = inspect.getsourcelines(type(module))
        line = f"{inspect.getsourcefile(type(module))}:{number}" if lines else ""
    except (OSError, TypeError):  # built at run time: there is no source to show
        line = type(module).__qualname__
    return _error(construct, module_path, line)


def unsupported_exception(error: BaseException, construct: str) -> UnsupportedModelError:
    """The error for an exception that came out of a model's forward while it was exported."""
    first, *others = (str(error) or type(error).__name__).splitlines()
    found = [line.strip(" -") for line in others if line.startswith("  - ")]
    # torch's summary of violated constraints says less than the first of them
    reason = found[0].split(". ")[0] if found else first
    return _error(f"{construct}: {reason}", "", _innermost_model_line(error.__traceback__))


def _innermost_model_line(trace: TracebackType | None) -> str:
    lines = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(trace)
        if _is_model_code(frame.filename)
    ]
    return lines[-1] if lines else ""


def unsupported_node(node: torch.fx.Node, construct: str) -> UnsupportedModelError:
    """The error for a node of an exported program, placed by what export kept in its meta."""
    stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    module_path = paths[-1] if paths else ""
    return _error(construct, module_path, source_line(node))


def source_line(node: torch.fx.Node) -> str:
    """`file:line` of the model code that made `node`, or "" where export kept none.

    Where no line is known as a model's, the innermost one is taken.
    """
    lines = re.findall(r'File "(.+?)", line (\d+)', node.meta.get("stack_trace") or "")
    of_model = [(file, number) for file, number in lines if _is_model_code(file)]
    return ":".join((of_model or lines or [("",)])[-1])
