"""Turns an Authorization header into the name of a key, or into 401.

Keys are kept as hashes: neither a dump of the memory nor a log shows one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path

from ingot.errors import UsageError, reason_of
from ingot.runtime.server.errors import ApiError

MIN_KEY_LENGTH = 8


def read_keys(given: Iterable[str], file: Path | None, listed: str | None) -> tuple[str, ...]:
    """The keys of the command line, of a file (one a line, # for comments) and of a variable
    (between commas)."""
    keys = [(key, "an API key") for key in given]
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the key file {file} can't be read: {reason_of(error)}") from None
        found = [
            (line.strip(), f"the key in line {number} of {file}")
            for number, line in enumerate(lines, start=1)
            if line.strip() and not line.startswith("#")
        ]
        if not found:
            raise UsageError(f"the key file {file} holds no key")
        keys += found
    variable = [key.strip() for key in (listed or "").split(",")]
    keys += [(key, "an API key of INGOT_API_KEYS") for key in variable if key]
    for key, name in keys:
        if len(key) < MIN_KEY_LENGTH or not key.isascii() or not key.isprintable() or " " in key:
            raise UsageError(
                f"{name} has {len(key)} characters; it has at least {MIN_KEY_LENGTH}, "
                "printable ASCII without spaces"
            )
    return tuple(dict.fromkeys(key for key, _ in keys))


class KeyRing:
    """The keys that a server takes. Without any it takes every request."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._hashes = tuple(_hash(key.encode()) for key in keys)

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def identify(self, header: bytes | None) -> str:
        """The name of the header's key: the start of its hash, "" where there are no keys."""
        if not self._hashes:
            return ""
        if header is None:
            raise _refusal("this server wants an API key: send Authorization: Bearer KEY")
        scheme, _, key = header.partition(b" ")
        if scheme.lower() != b"bearer":
            raise _refusal("the Authorization header is not of the form: Bearer KEY")
        given = _hash(key.strip())
        # All are compared, so that the time says nothing about which one is nearly right.
        matches = [hmac.compare_digest(given, known) for known in self._hashes]
        if not any(matches):
            raise _refusal("the API key is not one of this server's")
        return given.hex()[:16]


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _refusal(message: str) -> ApiError:
    headers = {"WWW-Authenticate": "Bearer"}
    return ApiError(401, message, code="invalid_api_key", headers=headers)
