"""Which files of a tokenizer travel, and whether they fit the model."""

from pathlib import Path

import pytest

from ingot.errors import ModelError
from ingot.models.tokenizer import check_tokenizer, tokenizer_files


def test_files_that_travel(tokenizer_json: Path) -> None:
    folder = tokenizer_json.parent
    for name in ("chat_template.jinja", "README.md", "tokenizer_config.json"):
        (folder / name).touch()
    names = [path.name for path in tokenizer_files(folder)]
    assert names == ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no tokenizer\.json"):
        tokenizer_files(tmp_path)


def test_vocabulary_size(tokenizer_json: Path) -> None:
    check_tokenizer(tokenizer_json.parent, 4)
    check_tokenizer(tokenizer_json.parent, 64)
    with pytest.raises(ModelError, match="token ids up to 3; the model's vocabulary has 3"):
        check_tokenizer(tokenizer_json.parent, 3)


def test_broken_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="is no tokenizer"):
        check_tokenizer(tmp_path, 4)
