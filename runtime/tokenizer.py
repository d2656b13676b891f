"""Turns text into tokens and back, by the tokenizer's own files in the artifact."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer as Backend

from ingot.errors import ArtifactCorruptError, RequestError
from ingot.runtime.token_bytes import TokenBytes

if TYPE_CHECKING:
    from ingot.runtime.chat_template import ChatTemplate

SPECIAL_TOKENS = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip

# Marks of tool calls, which some tokenizers call special: as such they would vanish from the text,
# and the call with them.
TOOL_MARKS = (
    "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<tool_call>", "</tool_call>", "<|python_tag|>",
)  # fmt: skip

# No text in the file reads like this key: its quotes would have backslashes.
_ADDED_TOKENS = re.compile(r'"added_tokens"\s*:\s*(?=\[)')


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where the file is absent: each of these files is optional."""
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactCorruptError(f"{path} is not JSON ({error})") from None
    if not isinstance(record, dict):
        raise ArtifactCorruptError(f"{path} holds a {type(record).__name__}, not an object")
    return record


def _token_text(value: Any) -> str | None:
    """A special token is written as its text or as a record with `content`."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def _as_ids(value: Any) -> frozenset[int]:
    return frozenset(value if isinstance(value, list) else [] if value is None else [value])


def _show_marks(text: str) -> tuple[str, dict[str, int]]:
    """A tokenizer's file with the marks of tool calls as plain tokens, and those it changed."""
    found = _ADDED_TOKENS.search(text)
    if found is None:
        return text, {}
    # The list alone is read: with the vocabulary it would take longer than all else of a start.
    entries, end = json.JSONDecoder().raw_decode(text, found.end())
    marks = {}
    for entry in entries:
        if entry["special"] and entry["content"] in TOOL_MARKS:
            entry["special"] = False
            marks[entry["content"]] = entry["id"]
    if not marks:
        return text, {}
    return text[: found.end()] + json.dumps(entries, ensure_ascii=False) + text[end:], marks


class Tokenizer:
    """`end_token_ids` are the tokens that end a text: the generation config's, or the model
    config's, or the tokenizer's own. `tool_marks` are those of its special tokens that mark tool
    calls; unlike others they are part of the text."""

    def __init__(self, folder: Path, model_config: Mapping[str, Any] | None = None) -> None:
        path = folder / "tokenizer.json"
        try:
            text, self.tool_marks = _show_marks(path.read_text(encoding="utf-8"))
            self._backend = Backend.from_str(text)
        except Exception as error:  # the library raises the bare class
            raise ArtifactCorruptError(f"{path} can't be read: {error}") from None
        # A prompt is never cut or filled up behind the user's back.
        self._backend.no_truncation()
        self._backend.no_padding()
        config = _read_json(folder / "tokenizer_config.json")
        named = {**_read_json(folder / "special_tokens_map.json"), **config}
        texts = {name: _token_text(named.get(name)) for name in SPECIAL_TOKENS}
        self.special_tokens = {name: text for name, text in texts.items() if text is not None}
        self._template_source = _find_template(folder, config)
        self._template: ChatTemplate | None = None
        generation = _read_json(folder / "generation_config.json")
        own = self._backend.token_to_id(self.special_tokens.get("eos_token", ""))
        self.end_token_ids = (
            _as_ids(generation.get("eos_token_id"))
            or _as_ids((model_config or {}).get("eos_token_id"))
            or _as_ids(own)
        )

    @property
    def vocab_size(self) -> int:
        return int(self._backend.get_vocab_size())

    @property
    def chat_template(self) -> str | None:
        """The Jinja text that came with the tokenizer."""
        return self._template_source

    @property
    def token_bytes(self) -> TokenBytes:
        return TokenBytes(self._backend)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return list(self._backend.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._backend.decode(list(tokens), skip_special_tokens=True))

    def format_chat(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """The prompt that asks for the next assistant message."""
        if self._template_source is None:
            raise RequestError(
                "the model has no chat template, so it can't chat",
                hint="give it a plain prompt; instruction-tuned models have a template",
            )
        if self._template is None:
            # Jinja is loaded by the first chat and not by every start.
            from ingot.runtime.chat_template import ChatTemplate

            self._template = ChatTemplate(self._template_source, self.special_tokens)
        return self._template.render(messages, **variables)

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> list[int]:
        # The template writes the special tokens itself; adding them would double the first.
        return self.encode(self.format_chat(messages, **variables), add_special_tokens=False)


def _find_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if template is None:
        template = _read_json(folder / "chat_template.json").get("chat_template")
    if isinstance(template, list):  # several, by name
        named = {entry.get("name"): entry.get("template") for entry in template}
        template = named.get("default")
    return template if isinstance(template, str) else None
