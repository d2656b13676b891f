"""Turns finished and running requests into what `/v1/requests/{id}` shows: where the time went."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from typing import Any

from ingot.runtime.outputs import RequestStats
from ingot.runtime.server.errors import ApiError


@dataclass(slots=True)
class Trace:
    """One request to the API; it holds no text."""

    id: str
    endpoint: str
    key_name: str
    num_prompts: int
    num_prompt_tokens: int
    created: float = field(default_factory=time.time)
    state: str = "running"  # running, finished, failed, cancelled
    total_s: float | None = None
    first_chunk_s: float | None = None
    error: str | None = None
    outputs: dict[int, dict[str, Any]] = field(default_factory=dict)

    def add_output(self, index: int, finish_reason: str, stats: RequestStats) -> None:
        self.outputs[index] = {"index": index, "finish_reason": finish_reason, **asdict(stats)}

    def end(self, state: str, error: str | None = None) -> None:
        self.state = state
        self.error = error
        self.total_s = time.time() - self.created

    def as_json(self) -> dict[str, Any]:
        record = {
            "object": "request",
            **{name: getattr(self, name) for name in self.__slots__ if name != "key_name"},
        }
        record["outputs"] = [self.outputs[index] for index in sorted(self.outputs)]
        return record


class TraceStore:
    """The latest requests; older ones are forgotten."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._traces: OrderedDict[str, Trace] = OrderedDict()

    def add(self, trace: Trace) -> None:
        self._traces[trace.id] = trace
        while len(self._traces) > self._capacity:
            self._traces.popitem(last=False)

    def find(self, request_id: str, key_name: str) -> Trace:
        """Another key's requests are as unknown as ones that never were."""
        trace = self._traces.get(request_id)
        if trace is None or trace.key_name != key_name:
            raise ApiError(
                404,
                f"there is no request {request_id[:100]!r} among the latest {self._capacity}",
                code="request_not_found",
            )
        return trace
