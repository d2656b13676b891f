"""Cuts prompts of exact lengths out of a text: the same token ids for every backend.

The text is sources of the standard library, so that nothing is downloaded. Every generation
gets prompts of its own: an engine that remembers prefixes must not be timed on a remembered one.
"""

import hashlib
import importlib
import inspect
import json
import random
from dataclasses import dataclass
from pathlib import Path

from ingot.errors import ModelError

TEXT_MODULES = ("argparse", "ast", "decimal", "inspect", "pathlib", "tarfile", "typing")


@dataclass(frozen=True, slots=True)
class Case:
    """One shape of work."""

    prompt_length: int
    batch_size: int


Prompts = tuple[tuple[int, ...], ...]  # one batch


@dataclass(frozen=True, slots=True)
class PromptSet:
    source: str
    batches: dict[Case, tuple[Prompts, ...]]  # one batch for each generation of the case

    def sha256(self) -> str:
        rows = [[list(row) for row in batch] for case in self.batches.values() for batch in case]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def make_prompts(model: Path, cases: tuple[Case, ...], num_batches: int, seed: int) -> PromptSet:
    """Prompts for every case, from the model's tokenizer.json or, without one, at random."""
    choose = random.Random(seed)
    tokenizer_file = model / "tokenizer.json"
    if tokenizer_file.exists():
        source = f"tokenized sources of {', '.join(TEXT_MODULES)}"
        text = tokenize(tokenizer_file, max(case.prompt_length for case in cases))
    else:
        source = "random token ids: the model has no tokenizer.json"
        vocab_size = read_vocab_size(model)
        text = [choose.randrange(vocab_size) for _ in range(1 << 16)]

    def cut(length: int) -> tuple[int, ...]:
        start = choose.randrange(len(text) - length + 1)
        return tuple(text[start : start + length])

    batches = {
        case: tuple(
            tuple(cut(case.prompt_length) for _ in range(case.batch_size))
            for _ in range(num_batches)
        )
        for case in cases
    }
    return PromptSet(source, batches)


def tokenize(tokenizer_file: Path, min_tokens: int) -> list[int]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    text = "".join(inspect.getsource(importlib.import_module(name)) for name in TEXT_MODULES)
    token_ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    # a prompt longer than the text repeats it
    return token_ids * (1 + 2 * min_tokens // len(token_ids))


def read_vocab_size(model: Path) -> int:
    config = json.loads((model / "config.json").read_text())
    size = config.get("vocab_size", config.get("text_config", {}).get("vocab_size"))
    if not isinstance(size, int):
        raise ModelError(
            f"{model / 'config.json'} has no vocab_size, and there's no tokenizer.json"
        )
    return size
