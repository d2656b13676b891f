"""Turns an output's text, piece by piece, into content and tool calls.

Text that may become a call is held back until it is clear; content goes on at once.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ingot.runtime.server.tool_formats import (
    Call,
    Start,
    ToolFormat,
    read_bare_values,
    read_call,
)


@dataclass(frozen=True, slots=True)
class ToolDelta:
    """A piece of the call number `index`; the first one has the id and the name."""

    index: int
    arguments: str
    id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    content: str = ""
    tools: tuple[ToolDelta, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.content or self.tools)


class OutputStream(Protocol):
    def push(self, text: str) -> Piece: ...

    def finish(self) -> Piece:
        """No more text: what was held back."""


class ContentStream:
    """An output without tools."""

    def push(self, text: str) -> Piece:
        return Piece(text)

    def finish(self) -> Piece:
        return Piece()


def make_id(length: int = 24) -> str:
    return "call_" + secrets.token_hex(-(-length // 2))[:length]


class ParsedToolStream:
    """Calls as the model writes them by itself. What looks like a call and is none, or calls a
    tool that there isn't, is content. `parameters` are the tools' schemas by their names."""

    def __init__(
        self,
        form: ToolFormat,
        parameters: Mapping[str, Mapping[str, Any]],
        *,
        parallel: bool = True,
    ) -> None:
        self._format = form
        self._parameters = parameters
        self._parallel = parallel
        self._held = ""
        self._in_call = False
        self._is_leading = True
        self._skips_blanks = False  # between two calls they are no content
        self._num_calls = 0

    def push(self, text: str) -> Piece:
        self._held += text
        content = ""
        calls: list[Call] = []
        while True:
            if not self._in_call:
                content += self._take_content()
            segment = self._take_call() if self._in_call else None
            if segment is None:
                break
            found, rest = self._parse(segment)
            calls += found
            content += rest
        return self._piece(content, calls)

    def finish(self) -> Piece:
        if not self._in_call:
            rest, self._held = self._held, ""
            return self._piece(rest, [])
        calls, rest = self._parse(self._held)
        self._held = ""
        return self._piece(rest, calls)

    def _take_content(self) -> str:
        """What can't be part of a call; enters the call when its start is complete."""
        if self._skips_blanks:
            self._held = self._held.lstrip()
            self._skips_blanks = not self._held
        body = self._held.lstrip() if self._is_leading else self._held
        blank = len(self._held) - len(body)
        starts = [start for start in self._format.starts if self._is_leading or not start.leading]
        places = []
        for start in starts:
            place = 0 if start.leading and body.startswith(start.text) else -1
            if not start.leading:
                place = body.find(start.text)
            if place >= 0:
                places.append(place)
        if places:
            cut = blank + min(places)
            content, self._held = self._held[:cut], self._held[cut:]
            self._in_call = True
            self._is_leading = False
            return content if content.strip() else ""
        keep = max((_overlap(body, start) for start in starts if not start.leading), default=0)
        if self._is_leading:
            if not body or any(start.text.startswith(body) for start in starts):
                return ""
            self._is_leading = False
        cut = len(self._held) - keep
        content, self._held = self._held[:cut], self._held[cut:]
        return content

    def _take_call(self) -> str | None:
        """The text of one call, when it is complete."""
        end = self._format.end
        if end is None or (place := self._held.find(end)) < 0:
            return None
        cut = place + len(end)
        segment, self._held = self._held[:cut], self._held[cut:]
        self._in_call = False
        return segment

    def _parse(self, segment: str) -> tuple[list[Call], str]:
        try:
            calls = self._format.parse(segment)
        except ValueError:
            return [], segment
        if not all(call.name in self._parameters for call in calls):
            return [], segment
        if self._format.has_bare_values:
            calls = [read_bare_values(call, self._parameters[call.name]) for call in calls]
        self._skips_blanks = True
        return calls, ""

    def _piece(self, content: str, calls: list[Call]) -> Piece:
        room = len(calls) if self._parallel else max(0, 1 - self._num_calls)
        deltas = []
        for call in calls[:room]:
            name_id = make_id(self._format.id_length)
            deltas.append(ToolDelta(self._num_calls, call.arguments, name_id, call.name))
            self._num_calls += 1
        return Piece(content, tuple(deltas))


def _overlap(text: str, start: Start) -> int:
    """How long the longest end of `text` is that `start` begins with."""
    for length in range(min(len(start.text) - 1, len(text)), 0, -1):
        if start.text.startswith(text[-length:]):
            return length
    return 0


class NamedToolStream:
    """The output is the arguments of one call, by constraint: they stream as they come."""

    def __init__(self, name: str, id_length: int = 24) -> None:
        self._name = name
        self._id = make_id(id_length)
        self._begun = False

    def push(self, text: str) -> Piece:
        if not text:
            return Piece()
        if self._begun:
            return Piece(tools=(ToolDelta(0, text),))
        self._begun = True
        return Piece(tools=(ToolDelta(0, text, self._id, self._name),))

    def finish(self) -> Piece:
        return Piece()


class RequiredToolStream:
    """The output is a JSON list of calls, by constraint; each goes out when it is complete."""

    def __init__(self, id_length: int = 24) -> None:
        self._held = ""
        self._num_calls = 0
        self._id_length = id_length

    def push(self, text: str) -> Piece:
        self._held += text
        if "}" not in text:
            return Piece()
        deltas: list[ToolDelta] = []
        while True:
            body = self._held.lstrip(" \t\r\n[,")
            try:
                value, end = json.JSONDecoder().raw_decode(body)
                call = read_call(value)
            except ValueError:
                return Piece(tools=tuple(deltas))
            self._held = body[end:]
            call_id = make_id(self._id_length)
            deltas.append(ToolDelta(self._num_calls, call.arguments, call_id, call.name))
            self._num_calls += 1

    def finish(self) -> Piece:
        """A list that was cut off ends with the last whole call; without one, the text shows."""
        return Piece() if self._num_calls else Piece(self._held)
