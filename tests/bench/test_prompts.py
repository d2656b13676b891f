import json
from pathlib import Path

import pytest

from ingot.bench.prompts import Case, make_prompts
from ingot.errors import ModelError

CASES = (Case(3, 1), Case(17, 4))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 7}))
    return tmp_path


def test_lengths_and_batches_are_exact(model: Path) -> None:
    prompts = make_prompts(model, CASES, num_batches=3, seed=0)
    assert tuple(prompts.batches) == CASES
    for case, batches in prompts.batches.items():
        assert len(batches) == 3
        assert all(len(batch) == case.batch_size for batch in batches)
        assert all(len(row) == case.prompt_length for batch in batches for row in batch)
    assert "random token ids" in prompts.source


def test_seed_decides(model: Path) -> None:
    first, again, other = (make_prompts(model, CASES, 2, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.sha256() == again.sha256() != other.sha256()


def test_text_is_tokenized(model: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"self": 5, "?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(model / "tokenizer.json"))
    prompts = make_prompts(model, (Case(100_000, 1),), num_batches=1, seed=0)  # text repeats
    (row,) = prompts.batches[Case(100_000, 1)][0]
    assert len(row) == 100_000
    assert set(row) == {0, 5}
    assert "argparse" in prompts.source


def test_no_tokenizer_and_no_vocab_size(model: Path) -> None:
    (model / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="no vocab_size"):
        make_prompts(model, CASES, 1, 0)
