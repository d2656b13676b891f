"""The tokenizer is what its files say: end tokens, special tokens, template."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors

from ingot.errors import ArtifactCorruptError, RequestError
from ingot.runtime.text_stream import TextStream
from ingot.runtime.tokenizer import Tokenizer

TEMPLATE = "{% for m in messages %}[{{ m.content }}]{% endfor %}{{ bos_token }}"


def write_byte_tokenizer(folder: Path) -> None:
    """One token for each byte, after <s> (0) and </s> (1), which are special."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<s>": 0, "</s>": 1, **{letter: i + 2 for i, letter in enumerate(letters)}}
    backend = Backend(models.BPE(vocab, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<s>", "</s>"])
    backend.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    backend.enable_truncation(3)
    backend.enable_padding(length=9)
    backend.save(str(folder / "tokenizer.json"))


def write_fallback_tokenizer(folder: Path) -> None:
    """Like SentencePiece: words with their space, and bytes for all else."""
    vocab = {"<unk>": 0, "▁hi": 1, "▁you": 2}
    vocab |= {f"<0x{byte:02X}>": byte + 3 for byte in range(256)}
    backend = Backend(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.save(str(folder / "tokenizer.json"))


def write_json(path: Path, record: Any) -> None:
    path.write_text(json.dumps(record))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_byte_tokenizer(tmp_path)
    write_json(
        tmp_path / "tokenizer_config.json",
        {"bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}, "pad_token": None},
    )
    return tmp_path


def test_encode_and_decode(folder: Path) -> None:
    tokenizer = Tokenizer(folder)
    tokens = tokenizer.encode("né😀")
    assert tokens[0] == 0 and len(tokens) == 8, "cut or filled up"
    assert tokenizer.decode(tokens) == "né😀"
    assert tokenizer.encode("n", add_special_tokens=False) == tokens[1:2]
    assert tokenizer.vocab_size == 258


def test_text_of_special_tokens_is_empty(folder: Path) -> None:
    tokenizer = Tokenizer(folder)
    stream = TextStream(tokenizer.decode)
    assert [stream.push(token) for token in tokenizer.encode("aé")] == ["", "a", "", "é"]


def test_streams_of_a_byte_fallback_tokenizer(tmp_path: Path) -> None:
    write_fallback_tokenizer(tmp_path)
    tokenizer = Tokenizer(tmp_path)
    tokens = [1, *(byte + 3 for byte in "你😀".encode()), 2, 1]
    for cut in range(len(tokens)):
        stream = TextStream(tokenizer.decode, tokens[:cut])
        joined = "".join([*(stream.push(token) for token in tokens[cut:]), stream.finish()])
        if cut in (0, 1, 4, 8, 9, 10):  # between characters
            assert tokenizer.decode(tokens[:cut]) + joined == "hi你😀 you hi"


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": [5, 6]}, {"eos_token_id": 7}, {5, 6}),
        ({"eos_token_id": 5}, {}, {5}),
        ({}, {"eos_token_id": 7}, {7}),
        ({"eos_token_id": None}, {"eos_token_id": None}, {1}),
        (None, None, {1}),
    ],
)
def test_end_tokens(folder: Path, generation: Any, config: Any, expected: set[int]) -> None:
    if generation is not None:
        write_json(folder / "generation_config.json", generation)
    assert Tokenizer(folder, config).end_token_ids == expected


def test_no_end_token(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    assert Tokenizer(folder).end_token_ids == frozenset()


@pytest.mark.parametrize("place", ["jinja", "config", "list", "json"])
def test_template_places(folder: Path, place: str) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    if place == "jinja":
        (folder / "chat_template.jinja").write_text(TEMPLATE)
        config["chat_template"] = "the other is newer"
    elif place == "config":
        config["chat_template"] = TEMPLATE
    elif place == "list":
        config["chat_template"] = [
            {"name": "tool_use", "template": "no"}, {"name": "default", "template": TEMPLATE},
        ]  # fmt: skip
    else:
        write_json(folder / "chat_template.json", {"chat_template": TEMPLATE})
    write_json(folder / "tokenizer_config.json", config)
    tokenizer = Tokenizer(folder)
    assert tokenizer.chat_template == TEMPLATE
    messages = [{"role": "user", "content": "hi"}]
    assert tokenizer.format_chat(messages) == "[hi]<s>"
    assert tokenizer.encode_chat(messages) == [*tokenizer.encode("[hi]")[1:], 0], "<s> only once"


def test_no_template(folder: Path) -> None:
    tokenizer = Tokenizer(folder)
    assert tokenizer.chat_template is None
    with pytest.raises(RequestError, match="the model has no chat template"):
        tokenizer.format_chat([{"role": "user", "content": "hi"}])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokenizer.json", "{"),
        ("tokenizer.json", "{}"),
        ("tokenizer_config.json", "{"),
        ("generation_config.json", "[]"),
    ],
)
def test_broken_files(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(ArtifactCorruptError, match=name):
        Tokenizer(folder)


def test_missing_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ArtifactCorruptError, match=r"tokenizer\.json can't be read"):
        Tokenizer(tmp_path)


def test_marks_of_tool_calls_are_text(folder: Path) -> None:
    tokenizer = Tokenizer(folder)
    assert tokenizer.tool_marks == {}
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    backend.add_special_tokens(["[TOOL_CALLS]", "[INST]"])
    backend.save(str(folder / "tokenizer.json"))
    marked = Tokenizer(folder)
    first = backend.token_to_id("[TOOL_CALLS]")
    assert marked.tool_marks == {"[TOOL_CALLS]": first}
    tokens = marked.encode("a[TOOL_CALLS]b[INST]c")
    assert (
        tokens
        == tokenizer.encode("a")
        + [first, *tokenizer.encode("b")[1:], first + 1]
        + (tokenizer.encode("c")[1:])
    )
    assert marked.decode(tokens) == "a[TOOL_CALLS]bc"


def test_marks_are_found_behind_any_vocabulary(folder: Path) -> None:
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    backend.add_tokens(['"added_tokens": ['])
    backend.add_special_tokens(["[TOOL_CALLS]"])
    record = json.loads(backend.to_str())
    record = {"model": record.pop("model"), **record}
    record["model"]["vocab"]['"added_tokens": []'] = 300
    write_json(folder / "tokenizer.json", record)
    assert Tokenizer(folder).tool_marks == {"[TOOL_CALLS]": backend.token_to_id("[TOOL_CALLS]")}
