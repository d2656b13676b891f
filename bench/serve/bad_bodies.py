"""Bodies that no server may take: each is to be answered with a 4xx and harm nobody else."""

from __future__ import annotations

import json
from typing import Any

NESTED = 20_000  # levels: enough to exhaust the stack of a parser that recurses
LONG_CHARACTERS = 400_000


def make_bad_bodies(model: str) -> tuple[tuple[str, bytes], ...]:
    """(what is wrong, body of `/v1/completions`)"""

    def body(**changes: Any) -> bytes:
        return json.dumps({"model": model, "prompt": "a", "max_tokens": 4, **changes}).encode()

    return (
        ("nothing", b""),
        ("half of JSON", b'{"model": "'),
        ("not UTF-8", b'{"model": "\xff\xfe", "prompt": "a"}'),
        ("a list", b"[]"),
        ("nested too deeply", b'{"prompt": ' + b"[" * NESTED + b"]" * NESTED + b"}"),
        ("no prompt", json.dumps({"model": model}).encode()),
        ("an empty prompt", body(prompt="")),
        ("a prompt longer than any context", body(prompt="word " * (LONG_CHARACTERS // 5))),
        ("tokens that don't exist", body(prompt=[2**31 - 1])),
        ("negative tokens", body(prompt=[-1])),
        ("max_tokens 0", body(max_tokens=0)),
        ("huge max_tokens", body(max_tokens=2**40)),
        ("huge n", body(n=1_000_000)),
        ("temperature in words", body(temperature="hot")),
        ("negative temperature", body(temperature=-1)),
        ("top_p 2", body(top_p=2)),
        ("a bias on words", body(logit_bias={"word": 1})),
        ("a thousand stops", body(stop=[str(number) for number in range(1000)])),
        ("another model", body(model="no-such-model")),
        ("a broken schema", body(response_format={"type": "json_schema"})),
    )
