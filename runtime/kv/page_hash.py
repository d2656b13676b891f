"""Turns the tokens of full pages into names under which the pages can be found again.

A page's keys and values depend on its tokens and on all before them, so its name is a hash of its
tokens and the name of the page before. The first page's is of the salt: who does not know the salt
finds nothing. The hash is cryptographic, or a prompt could be made that finds another's pages.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b

HASH_BYTES = 16


def extend_page_hashes(
    hashes: list[bytes], tokens: Sequence[int], page_size_tokens: int, salt: str
) -> None:
    """Append the names of full pages of `tokens` that `hashes` lacks."""
    for page in range(len(hashes), len(tokens) // page_size_tokens):
        before = hashes[-1] if hashes else _digest(salt.encode())
        start = page * page_size_tokens
        own = array("i", tokens[start : start + page_size_tokens])
        hashes.append(_digest(before + own.tobytes()))


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=HASH_BYTES).digest()
