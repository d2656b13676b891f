"""Turns an engine's state into one value that can be sent, shown and counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


class PageState(IntEnum):
    """What a page of the KV cache holds: one byte of `EngineStats.page_map`."""

    FREE = 0  # nothing
    USED = 1  # tokens of one running sequence
    SHARED = 2  # tokens of several
    CACHED = 3  # tokens of nobody, kept for a prompt that begins alike; given away when needed


@dataclass(slots=True)
class Counters:
    """What the engine has done since it was made."""

    num_steps: int = 0
    num_requests: int = 0
    num_prompt_tokens: int = 0  # of accepted requests
    num_output_tokens: int = 0
    num_preemptions: int = 0
    num_finished: int = 0
    num_prefix_hit_tokens: int = 0  # prompt tokens whose keys and values were cached
    num_proposed_tokens: int = 0  # by speculation
    num_accepted_tokens: int = 0
    num_graph_misses: int = 0  # steps on a GPU that listed too many tokens for its graphs


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A moment of an engine. Free, used, shared and cached pages add up to `num_pages`."""

    num_waiting: int
    num_running: int
    num_pages: int
    num_free_pages: int
    num_used_pages: int
    num_shared_pages: int
    num_cached_pages: int
    page_map: bytes = b""  # one PageState a page
    counters: Counters = field(default_factory=Counters)
    retry_after_s: float = 1.0  # until those that wait now have finished, for one who finds no room
