"""The standard library's sources to documents, held-out ones apart, and to a stream of tokens."""

import ast
import hashlib
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from ingot.models.demo_training.tokenizer import CONTEXT_TOKENS, END_OF_TEXT, IM_END, IM_START

BLOCKS_PER_STEP = 8
HELD_OUT_PERCENT = 3


@dataclass(frozen=True, slots=True)
class Document:
    path: str
    text: str
    is_test: bool

    @property
    def is_held_out(self) -> bool:
        return is_held_out(self.path)


def is_held_out(path: str) -> bool:
    """Whether training never reads the file: decided by its path alone, for every run alike."""
    number = int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big")
    return number / 2**32 < HELD_OUT_PERCENT / 100


def read_corpus(*, held_out_only: bool = False) -> list[Document]:
    """Every module of the standard library that parses and is not a table of data."""
    root = Path(sysconfig.get_paths()["stdlib"])
    documents = []
    for file in sorted(root.rglob("*.py")):
        relative = file.relative_to(root)
        if "site-packages" in relative.parts or "pydoc_data" in relative.parts:
            continue
        if held_out_only and not is_held_out(relative.as_posix()):
            continue
        try:
            text = file.read_text(encoding="utf-8")
            ast.parse(text)
        except (UnicodeDecodeError, SyntaxError, ValueError):
            continue
        num_words = sum(len(word) for word in re.findall(r"[A-Za-z_\s]+", text))
        if not 200 < len(text) < 400_000 or num_words < 0.7 * len(text):
            continue
        is_test = bool({"test", "tests", "idle_test"} & set(relative.parts))
        documents.append(Document(relative.as_posix(), text, is_test))
    return documents


def read_chats(documents: list[Document]) -> list[str]:
    """Short functions as answers to the first line of their docstrings, in ChatML."""
    chats = []
    for document in documents:
        for node in ast.walk(ast.parse(document.text)):
            if not isinstance(node, ast.FunctionDef) or not (doc := ast.get_docstring(node)):
                continue
            question = doc.strip().split("\n")[0]
            lines = document.text.splitlines()[node.lineno - 1 : node.end_lineno]
            source = "\n".join(line.removeprefix(" " * node.col_offset) for line in lines)
            if 15 < len(question) < 100 and len(source) < 1000:
                chats.append(
                    f"{IM_START}user\n{question}{IM_END}\n{IM_START}assistant\n{source}{IM_END}\n"
                )
    return chats


def cut(text: str, rng: np.random.Generator) -> list[str]:
    """Break a text where a prompt might end, so that `def ` is a prompt the model has seen.

    A word's token carries the space before it; without cuts the model would never continue a
    prompt that ends in a space, nor one that ends in the middle of a word.
    """
    spaces = [m.end() for m in re.finditer(r"(?<=\S) (?=\S)", text)]
    chosen = {p for p, keep in zip(spaces, rng.random(len(spaces)) < 0.04, strict=True) if keep}
    chosen |= set(rng.integers(1, len(text), size=len(text) // 500).tolist())
    edges = [0, *sorted(chosen), len(text)]
    return [text[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def encode_training(
    documents: list[Document], tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator
) -> torch.Tensor:
    """One shuffled stream: the library twice (with other cuts), its tests and the chats once."""
    fast = tokenizer.backend_tokenizer
    texts = [cut(d.text, rng) for d in documents for _ in range(1 if d.is_test else 2)]
    texts += [[chat] for chat in read_chats([d for d in documents if not d.is_test])]
    streams = []
    for index in rng.permutation(len(texts)):
        pieces = [END_OF_TEXT, *texts[index]]
        ids = [i for e in fast.encode_batch_fast(pieces, add_special_tokens=False) for i in e.ids]
        streams.append(np.array(ids, dtype=np.int16))
    return torch.from_numpy(np.concatenate(streams))


def read_blocks(stream: torch.Tensor, rng: np.random.Generator) -> Iterator[torch.Tensor]:
    """Endless batches of CONTEXT_TOKENS + 1 tokens, every block once an epoch."""
    while True:
        offset = int(rng.integers(CONTEXT_TOKENS))
        starts = np.arange(offset, len(stream) - CONTEXT_TOKENS - 1, CONTEXT_TOKENS)
        rng.shuffle(starts)
        for i in range(0, len(starts) - BLOCKS_PER_STEP, BLOCKS_PER_STEP):
            chosen = starts[i : i + BLOCKS_PER_STEP]
            yield torch.stack([stream[s : s + CONTEXT_TOKENS + 1] for s in chosen]).long()
