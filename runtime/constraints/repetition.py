"""Turns a regular expression into how long it is when its counted repetitions are written out.

The grammar compiler's limits don't see repetitions, and what they cost grows with them:
`(a{1000}){1000}` is a million characters, seconds to compile, and time at every step after that.
"""

from __future__ import annotations

import re

from ingot.errors import RequestError

MAX_LENGTH = 20_000  # about 30 ms to compile and 5 ms at every step

MOST = 10**12  # more is not told apart

_COUNT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_ESCAPE = re.compile(r"\\(?:[pPxuU]\{[^}]*\}|.|$)", re.DOTALL)
_SLASH = re.compile(r"(?<!\\)/")


def written_out_length(pattern: str) -> int:
    """An upper bound; what is no pattern gets any number. Takes time in proportion to its size."""
    sums = [0]  # of each open group
    last = 0  # the length of the item that a count would repeat
    place = 0
    while place < len(pattern):
        character = pattern[place]
        if character == "{" and (count := _COUNT.match(pattern, place)):
            times = max(int(number or 1) for number in (count[1][:9], (count[2] or "")[:9]))
            sums[-1] = min(sums[-1] + last * (times - 1), MOST)
            last = min(last * times, MOST)
            place = count.end()
            continue
        if character == "(":
            sums.append(0)
        elif character == ")" and len(sums) > 1:
            last = sums.pop()
            sums[-1] = min(sums[-1] + last, MOST)
        elif character not in "*+?|)":
            last = 1
            sums[-1] += 1
        place = _end_of_item(pattern, place)
    return sum(sums)


def _end_of_item(pattern: str, place: int) -> int:
    """Behind an escape or a class, else behind the character. Classes may hold classes."""
    if pattern[place] == "\\":
        match = _ESCAPE.match(pattern, place)
        assert match is not None
        return match.end()
    if pattern[place] != "[":
        return place + 1
    depth = 0
    while place < len(pattern):
        if pattern[place] == "\\":
            place += 2
            continue
        depth += (pattern[place] == "[") - (pattern[place] == "]")
        place += 1
        if depth == 0:
            return place
    return place  # a class that is never closed makes it no pattern, and nothing compiles it


def check_repetitions(what: str, pattern: str) -> None:
    length = written_out_length(pattern)
    if length > MAX_LENGTH:
        raise RequestError(
            f"{what} comes to {length} characters with its repetitions written out; at most "
            f"{MAX_LENGTH} are compiled"
        )


def check_grammar_repetitions(what: str, lark: str) -> None:
    """Every piece between two slashes may be a pattern, whatever is meant by the slashes."""
    for line in lark.splitlines():
        for piece in _SLASH.split(line):
            check_repetitions(what, piece)
