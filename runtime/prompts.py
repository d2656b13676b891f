"""Turns what a caller gives as one prompt or several into a list of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

Prompt = str | Sequence[int]


def as_prompts(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    if isinstance(prompts, str):
        return [prompts]
    many = list(prompts)
    if many and all(isinstance(item, Integral) for item in many):
        return [many]  # type: ignore[list-item]  # one prompt of token ids
    return many  # type: ignore[return-value]
