"""The embedded demo model and its draft: whole, small, loadable, and good enough to show."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ingot.models.demo_training.corpus import read_corpus
from ingot.models.demo_training.evaluation import evaluate

DEMO = Path(__file__).parents[2] / "models" / "demo"
FOLDERS = {"demo": DEMO, "draft": DEMO / "draft"}
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(DEMO)


@pytest.fixture(scope="module")
def loaded() -> dict[str, Any]:
    load = transformers.AutoModelForCausalLM.from_pretrained
    return {name: load(folder, dtype=torch.float32).eval() for name, folder in FOLDERS.items()}


@pytest.mark.parametrize("name", FOLDERS)
def test_files_are_present(name: str) -> None:
    missing = [file for file in MODEL_FILES if not (FOLDERS[name] / file).is_file()]
    assert not missing
    assert (DEMO / "README.md").is_file()


@pytest.mark.parametrize(("name", "max_bytes"), [("demo", 12_000_000), ("draft", 1_100_000)])
def test_weights_are_small(name: str, max_bytes: int) -> None:
    assert (FOLDERS[name] / "model.safetensors").stat().st_size <= max_bytes


@pytest.mark.parametrize("name", FOLDERS)
def test_config_is_grouped_query_bfloat16_llama(name: str) -> None:
    config = json.loads((FOLDERS[name] / "config.json").read_text())
    assert config["model_type"] == "llama"
    assert config["dtype"] == "bfloat16"
    assert config["tie_word_embeddings"]
    assert config["num_key_value_heads"] < config["num_attention_heads"]


def test_parameter_counts(loaded: dict[str, Any]) -> None:
    assert 3_000_000 <= loaded["demo"].num_parameters() <= 6_000_000
    assert loaded["draft"].num_parameters() <= 500_000


def test_draft_shares_the_vocabulary(loaded: dict[str, Any], tokenizer: Any) -> None:
    ours, drafts = ((f / "tokenizer.json").read_bytes() for f in FOLDERS.values())
    assert ours == drafts
    assert {m.config.vocab_size for m in loaded.values()} == {len(tokenizer)}


@pytest.mark.parametrize(
    "text",
    [
        "def f(x):\n        return x\n",
        "\tif a:\r\n\t\tb = 1\r\n",
        "  \n \t \n\n\n   x  =  1   ",
        "naïve = 'Ünïcödé, 汉字, עברית, 🐍‍🔥'",
        "e\u0301 \u00e9 \ufeff \u2028 \x00 \x0b",
        "__init__ 3.14159 0xdeadbeef a_b__c",
        "",
    ],
)
def test_tokenizer_round_trip(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_indentation_is_one_token(tokenizer: Any) -> None:
    for depth in range(1, 5):
        assert len(tokenizer("\n" + " " * 4 * depth).input_ids) == 1


def test_special_tokens_and_chat_template(tokenizer: Any) -> None:
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert tokenizer.convert_tokens_to_ids(specials) == [0, 1, 2]
    messages = [{"role": "user", "content": "Return the name."}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert prompt == "<|im_start|>user\nReturn the name.<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    "prompt", ["def ", "def fibonacci(", "class Node:\n    def __init__(self", "import os\n"]
)
def test_greedy_completion_reads_as_python(
    loaded: dict[str, Any], tokenizer: Any, prompt: str
) -> None:
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    output = loaded["demo"].generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=64
    )
    lines = tokenizer.decode(output[0], skip_special_tokens=True).splitlines()
    assert len(lines) > 2
    ast.parse("\n".join(lines[:-1]))  # the last one stops in the middle of a statement


@pytest.fixture(scope="module")
def held_out() -> list[str]:
    return [d.text for d in read_corpus(held_out_only=True) if not d.is_test]


def read_card() -> dict[str, float]:
    """Perplexities on the library's held-out files, as the model card says."""
    rows = re.findall(r"^\| (\w+), library \|(.*)\|$", (DEMO / "README.md").read_text(), re.M)
    return {name: float(cells.split("|")[3]) for name, cells in rows}


@pytest.mark.parametrize("name", FOLDERS)
def test_perplexity_is_the_model_cards(
    loaded: dict[str, Any], tokenizer: Any, held_out: list[str], name: str
) -> None:
    """5 % for other ways to add up, and for the library of another Python."""
    figures = evaluate(loaded[name], held_out, tokenizer)
    assert figures["perplexity"] == pytest.approx(read_card()[name], rel=0.05)
