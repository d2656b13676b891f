"""What all routes of one server share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import Request

from ingot.runtime.chat_template import ChatTemplate
from ingot.runtime.server.auth import KeyRing
from ingot.runtime.server.engine import ServingEngine
from ingot.runtime.server.errors import ApiError
from ingot.runtime.server.lifecycle import Lifecycle
from ingot.runtime.server.metrics import Metrics
from ingot.runtime.server.recent import Recent
from ingot.runtime.server.settings import ServerSettings
from ingot.runtime.server.tool_formats import ToolFormat
from ingot.runtime.server.traces import TraceStore
from ingot.runtime.token_bytes import TokenBytes

if TYPE_CHECKING:
    from ingot.runtime.server.generation import Generation


@dataclass(slots=True)
class ServerState:
    """Made once by `create_state`; only the stores in it change."""

    engine: ServingEngine
    settings: ServerSettings
    model_names: tuple[str, ...]
    keys: KeyRing
    lifecycle: Lifecycle
    metrics: Metrics
    traces: TraceStore
    recent: Recent
    defaults: dict[str, Any]
    template: ChatTemplate | None
    takes_tools: bool
    tool_format: ToolFormat | None
    token_bytes: TokenBytes
    fingerprint: str
    running: dict[str, Generation] = field(default_factory=dict)
    num_cancelled: int = 0
    started_s: float = field(default_factory=time.time)

    @property
    def model_name(self) -> str:
        return self.model_names[0]

    @property
    def max_context_tokens(self) -> int:
        return self.engine.model_info.step.max_context_tokens

    def check_model(self, name: str | None) -> None:
        if name is not None and name not in self.model_names:
            known = ", ".join(self.model_names)
            raise ApiError(
                404,
                f"there is no model {name[:200]!r} here; this server has {known}",
                param="model",
                code="model_not_found",
            )


def get_state(request: Request) -> ServerState:
    state = request.app.state.ingot
    assert isinstance(state, ServerState)
    return state
