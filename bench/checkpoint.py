"""Writes checkpoints of real shapes with random weights: a shape's name becomes a folder.

`python -m ingot.bench.checkpoint 0.5b FOLDER`. What compiling, loading and stepping cost depends on
the shape and not on the values, so that sizes can be measured with no download. Tensors are made
and written one piece at a time: memory stays small whatever the shape.
"""

import argparse
import importlib
import inspect
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ingot.bench.prompts import TEXT_MODULES
from ingot.errors import UsageError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

PIECE_ELEMENTS = 1 << 22
BYTES_PER_ELEMENT = 2  # bfloat16
MAX_SHARD_BYTES = 2 << 30
TOKENIZER_SIZE = 4096
END_OF_TEXT = "<|endoftext|>"
WEIGHT_STD = 0.02


@dataclass(frozen=True, slots=True)
class Shape:
    """A model type of transformers and what its configuration says of size."""

    model_type: str
    sizes: Mapping[str, Any]


SHAPES = {
    "0.5b": Shape(
        "qwen2",
        {
            "num_hidden_layers": 24,
            "hidden_size": 896,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "intermediate_size": 4864,
            "vocab_size": 151936,
            "max_position_embeddings": 32768,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        },
    ),
    "1b": Shape(
        "llama",
        {
            "num_hidden_layers": 16,
            "hidden_size": 2048,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "intermediate_size": 8192,
            "vocab_size": 128256,
            "max_position_embeddings": 131072,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
    ),
    "8b": Shape(
        "llama",
        {
            "num_hidden_layers": 32,
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 14336,
            "vocab_size": 128256,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
        },
    ),
}


def make_checkpoint(
    shape: Shape, folder: Path, *, seed: int = 0, max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write config, bfloat16 safetensors and a small tokenizer. The folder must not exist yet."""
    if folder.exists():
        raise UsageError(f"{folder} is there already; name a folder that is to be made")
    folder.mkdir(parents=True)
    train_tokenizer(folder)
    config = make_config(shape)
    config.save_pretrained(folder)
    write_weights(list_tensors(config), folder, seed, max_shard_bytes)


def make_config(shape: Shape) -> "PretrainedConfig":
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        shape.model_type, **shape.sizes, bos_token_id=None, eos_token_id=0, dtype="bfloat16"
    )
    config.architectures = [AutoModelForCausalLM._model_mapping[type(config)].__name__]
    return config


def list_tensors(config: "PretrainedConfig") -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters by name, a tied one once, as transformers would save them."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def write_weights(
    tensors: Mapping[str, tuple[int, ...]], folder: Path, seed: int, max_shard_bytes: int
) -> None:
    shards = split_shards(tensors, max_shard_bytes)
    names = shard_names(len(shards))
    number = 0
    for file_name, shard in zip(names, shards, strict=True):
        with (folder / file_name).open("wb") as file:
            write_header(file, {name: tensors[name] for name in shard})
            for name in shard:
                for piece in make_tensor(name, tensors[name], seed + number):
                    file.write(piece)
                number += 1
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(map(count_bytes, tensors.values()))},
            "weight_map": {
                name: file_name
                for file_name, shard in zip(names, shards, strict=True)
                for name in shard
            },
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))


def split_shards(tensors: Mapping[str, tuple[int, ...]], max_shard_bytes: int) -> list[list[str]]:
    """Names in their order, a new shard where the next tensor would pass the limit."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, shape in tensors.items():
        if shards[-1] and size + count_bytes(shape) > max_shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += count_bytes(shape)
    return shards


def shard_names(count: int) -> list[str]:
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]


def write_header(file: BinaryIO, tensors: Mapping[str, tuple[int, ...]]) -> None:
    """The safetensors header: its length, then JSON padded to 8 bytes; data follows in order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, shape in tensors.items():
        end = start + count_bytes(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)


def make_tensor(name: str, shape: Sequence[int], seed: int) -> Iterator[bytes]:
    """Normal weights, and ones for the gains of norms, in pieces of bounded size."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    is_norm = len(shape) == 1 and name.endswith("weight")
    remaining = count_bytes(shape) // BYTES_PER_ELEMENT
    while remaining:
        piece = torch.ones(min(remaining, PIECE_ELEMENTS))
        if not is_norm:
            piece.normal_(0.0, WEIGHT_STD, generator=generator)
        yield piece.to(torch.bfloat16).view(torch.int16).numpy().tobytes()
        remaining -= len(piece)


def count_bytes(shape: Sequence[int]) -> int:
    count = BYTES_PER_ELEMENT
    for size in shape:
        count *= size
    return count


def train_tokenizer(folder: Path, size: int = TOKENIZER_SIZE) -> None:
    """A byte-level BPE of the standard library's sources; token 0 ends a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (inspect.getsource(importlib.import_module(name)) for name in TEXT_MODULES)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make_checkpoint(SHAPES[arguments.shape], arguments.folder, seed=arguments.seed)


if __name__ == "__main__":
    main()
