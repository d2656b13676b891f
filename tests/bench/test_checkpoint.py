import json
from pathlib import Path

import pytest

from ingot.bench.checkpoint import (
    SHAPES,
    Shape,
    list_tensors,
    make_checkpoint,
    make_config,
    split_shards,
    train_tokenizer,
)
from ingot.errors import UsageError

TOY = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 4099,
    "max_position_embeddings": 128,
}


@pytest.mark.parametrize(
    ("shape", "num_files"),
    [
        (Shape("qwen2", TOY | {"tie_word_embeddings": True}), 1),
        (Shape("llama", TOY | {"tie_word_embeddings": False}), 3),
    ],
)
def test_transformers_loads_it(shape: Shape, num_files: int, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "checkpoint"
    # the embedding has 262 kB: each big table a shard of its own
    make_checkpoint(shape, folder, max_shard_bytes=2 << 30 if num_files == 1 else 270_000)
    assert len(list(folder.glob("*.safetensors"))) == num_files

    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    assert model.dtype == torch.bfloat16
    weights = dict(model.named_parameters())
    assert set(weights) == set(list_tensors(model.config))
    embedding = weights["model.embed_tokens.weight"].float()
    assert embedding.std().item() == pytest.approx(0.02, rel=0.05)
    assert torch.equal(weights["model.norm.weight"], torch.ones(32, dtype=torch.bfloat16))
    first, second = (weights[f"model.layers.{layer}.mlp.up_proj.weight"] for layer in range(2))
    assert not torch.equal(first, second)  # every tensor has numbers of its own

    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "def naïve(x):\n    return x"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.eos_token_id == model.config.eos_token_id == 0


def test_same_seed_gives_same_bytes(tmp_path: Path) -> None:
    shape = Shape("llama", TOY)
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        make_checkpoint(shape, tmp_path / name, seed=seed)
    files = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert "config.json" in files and "tokenizer.json" in files
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    weights = "model.safetensors"
    assert (tmp_path / "a" / weights).read_bytes() != (tmp_path / "c" / weights).read_bytes()


@pytest.mark.parametrize(
    ("name", "num_parameters", "architecture"),
    [
        ("0.5b", 494_032_768, "Qwen2ForCausalLM"),
        ("1b", 1_235_814_400, "LlamaForCausalLM"),
        ("8b", 8_030_261_248, "LlamaForCausalLM"),
    ],
)
def test_shapes_are_the_real_ones(name: str, num_parameters: int, architecture: str) -> None:
    import math

    config = make_config(SHAPES[name])
    assert config.architectures == [architecture]
    assert sum(math.prod(shape) for shape in list_tensors(config).values()) == num_parameters


def test_shards_keep_the_order_and_the_limit() -> None:
    tensors = {"a": (10,), "b": (5,), "c": (6,), "d": (100,), "e": (1,)}
    assert split_shards(tensors, 30) == [["a", "b"], ["c"], ["d"], ["e"]]


def test_existing_folder_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is there already"):
        make_checkpoint(Shape("llama", TOY), tmp_path)


def test_tokenizer_has_the_size_asked_for(tmp_path: Path) -> None:
    train_tokenizer(tmp_path, size=300)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    assert len(content["model"]["vocab"]) == 300
