"""Turns token ids into the bytes that they stand for: a token may be half a character."""

from __future__ import annotations

import json
import re
from typing import Any

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


def byte_alphabet() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones stand for themselves, the rest begin at 256."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + place): byte for place, byte in enumerate(others)}


class TokenBytes:
    """Reads a `tokenizers.Tokenizer`. Special tokens stand for their own text."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._added: dict[int, bytes] = {
            token: added.content.encode()
            for token, added in backend.get_added_tokens_decoder().items()
        }
        decoder = None if backend.decoder is None else json.loads(backend.decoder.__getstate__())
        self._alphabet = byte_alphabet() if "ByteLevel" in _decoder_types(decoder) else None

    def __getitem__(self, token: int) -> bytes:
        """Nothing for an id without a token: vocabularies are padded."""
        added = self._added.get(token)
        if added is not None:
            return added
        piece = self._backend.id_to_token(token)
        if piece is None:
            return b""
        if self._alphabet is not None:
            return bytes(self._alphabet[character] for character in piece)
        if match := _BYTE_PIECE.fullmatch(piece):
            return bytes([int(match[1], 16)])
        return str(piece).replace(_SPACE, " ").encode()


def _decoder_types(decoder: Any) -> set[str]:
    if not isinstance(decoder, dict):
        return set()
    inner = (_decoder_types(each) for each in decoder.get("decoders", ()))
    return {decoder.get("type", "")}.union(*inner)
