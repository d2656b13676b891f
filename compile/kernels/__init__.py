"""The kernels: one folder an operator, in it one file a kind of hardware, named as the kind is."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import import_module
from typing import Any

from ingot.targets import Target

COST = "ingot.cost"
"""A `PrimFunc`'s attribute: its operator and its cost, as JSON."""


def implementation(op: str, target: Target) -> Any:
    """The module that implements the operator for the target: `<op>/cpu.py` or `<op>/cuda.py`."""
    return import_module(f"ingot.compile.kernels.{op}.{target.kind}")


def build_kernel(op: str, spec: Any, target: Target) -> Any:
    """The `PrimFunc` for one spec of the operator."""
    from ingot.compile.kernels.costs import cost_of

    function = implementation(op, target).build(spec, target)
    cost = {"op": op, **asdict(cost_of(op, spec, target))}
    return function.with_attr(COST, json.dumps(cost, sort_keys=True))
