"""The graph rewrites in the order in which they run; each can be turned off by its name."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import tvm

from ingot.compile.graph import Rewritten
from ingot.compile.rewrites.clean_up import clean_up
from ingot.compile.rewrites.fuse_activation import fuse_activation, fuse_gated_activation
from ingot.compile.rewrites.fuse_gated_linear import fuse_gated_linear
from ingot.compile.rewrites.fuse_norm import fuse_norm, fuse_residual_norm
from ingot.compile.rewrites.fuse_norm_linear import fuse_norm_linear
from ingot.compile.rewrites.fuse_rope import fuse_rope
from ingot.compile.rewrites.fuse_rope_write import fuse_rope_write
from ingot.compile.rewrites.gather_early import gather_early
from ingot.compile.rewrites.make_linears import make_linears
from ingot.compile.rewrites.merge_linears import FormatOf, merge_linears
from ingot.compile.rewrites.sink_layouts import sink_layouts
from ingot.errors import UsageError

Apply = Callable[[tvm.IRModule, FormatOf], Rewritten]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """`apply` takes the module and a function that tells in which format weights are stored."""

    name: str
    apply: Apply
    kinds: tuple[str, ...] = ("cpu", "cuda")  # of targets


def _without_formats(rewrite: Callable[[tvm.IRModule], Rewritten]) -> Apply:
    return lambda module, _format_of: rewrite(module)


REWRITES: tuple[Rewrite, ...] = (
    Rewrite("clean_up", _without_formats(clean_up)),
    Rewrite("fuse_rope", _without_formats(fuse_rope)),
    Rewrite("sink_layouts", _without_formats(sink_layouts)),
    Rewrite("clean_up", _without_formats(clean_up)),
    Rewrite("make_linears", _without_formats(make_linears)),
    Rewrite("fuse_norm", _without_formats(fuse_norm)),
    Rewrite("fuse_activation", _without_formats(fuse_activation)),
    Rewrite("clean_up", _without_formats(clean_up)),
    Rewrite("merge_linears", merge_linears),
    Rewrite("fuse_gated_activation", _without_formats(fuse_gated_activation)),
    Rewrite("fuse_gated_linear", _without_formats(fuse_gated_linear)),
    Rewrite("fuse_residual_norm", _without_formats(fuse_residual_norm)),
    Rewrite("fuse_rope_write", _without_formats(fuse_rope_write)),
    Rewrite("gather_early", _without_formats(gather_early)),
    Rewrite("fuse_norm_linear", fuse_norm_linear, ("cuda",)),
    Rewrite("clean_up", _without_formats(clean_up)),
)

QUANTIZE = "quantize"
"""Turned off, every matrix is stored in float32 whatever the scheme says."""

REWRITE_NAMES = tuple(dict.fromkeys([*(rewrite.name for rewrite in REWRITES), QUANTIZE]))


def check_names(disabled: Collection[str]) -> None:
    """Raise `UsageError` for a name that is no rewrite's."""
    for name in disabled:
        if name not in REWRITE_NAMES:
            raise UsageError(
                f"no rewrite is called {name!r}; rewrites are {', '.join(REWRITE_NAMES)}"
            )


def active_rewrites(disabled: Collection[str], kind: str) -> list[Rewrite]:
    """Those that are not turned off, for a kind of target."""
    check_names(disabled)
    return [r for r in REWRITES if r.name not in disabled and kind in r.kinds]
