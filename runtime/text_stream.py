"""Turns tokens, as they come, into text that is final: no half characters, no half stop strings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # what a decoder makes of bytes that are not UTF-8 (yet)
# A character has at most 4 bytes and a token at least one: after that many tokens the bytes are
# not half a character, they are wrong, and waiting longer would hold the text back for ever.
MAX_HELD_TOKENS = 6
# Decoders drop the space before a first word; a few tokens of the prompt keep it.
NUM_CONTEXT_TOKENS = 5


class TextStream:
    """The text of one output. `push` tokens, then `finish`; both return what became final.

    `found_stop` says that a stop string occurred: the text ends before it and takes no more.
    """

    def __init__(
        self, decode: Decode, prompt: Sequence[int] = (), stop_strings: Sequence[str] = ()
    ) -> None:
        self._decode = decode
        self._stop_strings = tuple(stop_strings)
        self._longest_stop = max(map(len, self._stop_strings), default=0)
        # tokens[:read] are in the text already; they stay so that the decoder sees what is before.
        # The context's text is that of tokens[:read], and of whole characters of those after.
        self._tokens = list(prompt[-NUM_CONTEXT_TOKENS:])
        self._read = len(self._tokens)
        self._context_text = decode(self._tokens) if self._tokens else ""
        self._num_held_tokens = 0  # since the text last grew
        self._text = ""
        self._num_emitted = 0
        self.found_stop = False

    @property
    def text(self) -> str:
        """All of the text so far, what is held back included."""
        return self._text

    def push(self, token: int, can_stop: bool = True) -> str:
        """Take one token. Without `can_stop` a stop string is text like any other."""
        if self.found_stop:
            return ""
        self._tokens.append(token)
        decoded = self._decode(self._tokens)
        if decoded == self._context_text:
            # A special token has no text and must not push out the words before it.
            self._tokens.pop()
            return ""
        self._num_held_tokens += 1
        whole = decoded.rstrip(REPLACEMENT)
        if whole == decoded or self._num_held_tokens >= MAX_HELD_TOKENS:
            self._extend(decoded, can_stop)
            self._forget_tokens()
        elif len(whole) > len(self._context_text):
            # The token ends one character and begins the next.
            self._extend(whole, can_stop)
        return self._emit(len(self._text) - (self._num_held() if can_stop else 0))

    def finish(self) -> str:
        """No more tokens: what was held back is text after all."""
        if not self.found_stop and self._read < len(self._tokens):
            self._extend(self._decode(self._tokens), can_stop=True)
        return self._emit(len(self._text))

    def _forget_tokens(self) -> None:
        """All tokens are in the text: only the last ones stay, for the decoder to see."""
        del self._tokens[: self._read]
        self._read = len(self._tokens)
        self._context_text = self._decode(self._tokens)

    def _extend(self, decoded: str, can_stop: bool) -> None:
        """Take what of `decoded`, the text of all tokens, is new."""
        self._text += decoded[len(self._context_text) :]
        self._context_text = decoded
        self._num_held_tokens = 0
        if not can_stop:
            return
        # What may be the start of a stop string was held back: none starts in what was emitted.
        places = [self._text.find(stop, self._num_emitted) for stop in self._stop_strings]
        found = [place for place in places if place >= 0]
        if found:
            self._text = self._text[: min(found)]
            self.found_stop = True

    def _num_held(self) -> int:
        """How long the longest end of the text is that may be the start of a stop string."""
        if self.found_stop:
            return 0
        for length in range(min(self._longest_stop - 1, len(self._text)), 0, -1):
            tail = self._text[-length:]
            if any(stop.startswith(tail) for stop in self._stop_strings):
                return length
        return 0

    def _emit(self, end: int) -> str:
        delta = self._text[self._num_emitted : end]
        self._num_emitted = max(end, self._num_emitted)
        return delta
