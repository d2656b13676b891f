"""Finds the tokenizer's own files in a checkpoint folder and checks that they fit the model."""

from pathlib import Path

from ingot.errors import ModelError

# What a runtime without transformers reads: the tokenizer, its settings, chat template, defaults.
_COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)


def tokenizer_files(folder: Path) -> tuple[Path, ...]:
    """The files that go into an artifact as they are. tokenizer.json is needed."""
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(
            f"{folder} has no tokenizer.json, the form that works without transformers",
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder) writes one",
        )
    return tuple(folder / name for name in _COPIED if (folder / name).is_file())


def check_tokenizer(folder: Path, vocab_size: int) -> None:
    """Raise ModelError unless every token has a row in the model's vocabulary.

    Fewer tokens than rows are usual: vocabularies are padded.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise ModelError(f"{file} is no tokenizer: {str(error).splitlines()[0]}") from error
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if largest >= vocab_size:
        raise ModelError(
            f"{file} has token ids up to {largest}; the model's vocabulary has {vocab_size}",
            "the tokenizer belongs to another model",
        )
