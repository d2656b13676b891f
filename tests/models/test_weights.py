"""Checkpoints of every family read as the model's own parameters, and damaged ones don't."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ingot.errors import CheckpointError, UnsupportedModelError
from ingot.models.families import FAMILIES
from ingot.models.resolve import resolve_model
from ingot.models.weights import WeightReader, open_weights
from tests.tiny_models import create_tiny_model, find_family


def reader(folder: Path, **trust: bool) -> WeightReader:
    return open_weights(resolve_model(str(folder), **trust))


def saved(folder: Path, name: str) -> dict[str, Tensor]:
    """A saved tiny model's parameters and persistent buffers."""
    model: Any = create_tiny_model(find_family(name))
    model.save_pretrained(folder)
    state: dict[str, Tensor] = model.state_dict()
    return state


def rewrite(folder: Path, change: Any) -> None:
    """Change the tensors of the single weights file."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
def test_family_reads_back(name: str, tmp_path: Path) -> None:
    state = saved(tmp_path, name)
    weights = reader(tmp_path)
    tied = {tensor.data_ptr() for tensor in state.values()}
    assert len(weights.names()) == len(tied)
    for parameter in weights.names():
        tensor = weights.read(parameter)
        assert tuple(tensor.shape) == weights.shape(parameter)
        torch.testing.assert_close(tensor, state[parameter], rtol=0, atol=0)


def test_shards(tmp_path: Path) -> None:
    model: Any = create_tiny_model(find_family("llama"))
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    weights = reader(tmp_path)
    name = "model.layers.1.mlp.down_proj.weight"
    torch.testing.assert_close(weights.read(name), model.state_dict()[name], rtol=0, atol=0)
    sorted(tmp_path.glob("model-*.safetensors"))[1].unlink()
    with pytest.raises(CheckpointError, match="has no model-00002"):
        reader(tmp_path)


def test_checkpoint_of_the_bare_model(tmp_path: Path) -> None:
    """gpt2 and bloom checkpoints have no `transformer.` before their names."""
    state = saved(tmp_path, "gpt2")

    def strip_prefix(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)

    rewrite(tmp_path, strip_prefix)
    name = "transformer.h.1.attn.c_attn.weight"
    torch.testing.assert_close(reader(tmp_path).read(name), state[name], rtol=0, atol=0)


def test_tied_tensor_under_its_other_name(tmp_path: Path) -> None:
    state = saved(tmp_path, "llama-llama3")

    def keep_head(tensors: dict[str, Tensor]) -> None:
        tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")

    rewrite(tmp_path, keep_head)
    weights = reader(tmp_path)
    assert "lm_head.weight" not in weights.names()
    torch.testing.assert_close(
        weights.read("model.embed_tokens.weight"), state["lm_head.weight"], rtol=0, atol=0
    )


def test_tied_tensors_that_differ(tmp_path: Path) -> None:
    """transformers would not tie them; a config that says otherwise is wrong."""
    name = "model.embed_tokens.weight"
    state = saved(tmp_path, "llama-llama3")
    rewrite(tmp_path, lambda t: t.update({"lm_head.weight": t[name].clone()}))
    torch.testing.assert_close(reader(tmp_path).read(name), state[name], rtol=0, atol=0)
    rewrite(tmp_path, lambda t: t["lm_head.weight"].add_(1))
    with pytest.raises(CheckpointError, match=r"ties lm_head\.weight to model\.embed_tokens"):
        reader(tmp_path).read(name)


def test_dtype_is_the_checkpoints(llama_folder: Path) -> None:
    rewrite(llama_folder, lambda t: t.update({n: x.bfloat16() for n, x in t.items()}))
    assert reader(llama_folder).read("model.norm.weight").dtype == torch.bfloat16


def test_missing_tensors(llama_folder: Path) -> None:
    rewrite(llama_folder, lambda t: t.pop("model.norm.weight"))
    with pytest.raises(CheckpointError, match=r"lacks 1 of 21 tensors: model\.norm\.weight"):
        reader(llama_folder)


def test_shape_of_another_configuration(llama_folder: Path) -> None:
    rewrite(llama_folder, lambda t: t.update({"lm_head.weight": torch.zeros(130, 32)}))
    with pytest.raises(CheckpointError, match=r"lm_head\.weight .* \[130, 32\].* \[128, 32\]"):
        reader(llama_folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers(llama_folder: Path, value: float) -> None:
    rewrite(llama_folder, lambda t: t["model.norm.weight"].fill_(1)[3:4].fill_(value))
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight .* NaN or infinite"):
        reader(llama_folder).read("model.norm.weight")
    unchecked = open_weights(resolve_model(str(llama_folder)), check_finite=False)
    assert not torch.isfinite(unchecked.read("model.norm.weight")).all()


@pytest.mark.parametrize("kept_bytes", [4, 100, 20_000])
def test_truncated_file(llama_folder: Path, kept_bytes: int) -> None:
    file = llama_folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept_bytes])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is truncated"):
        reader(llama_folder)


def test_file_of_another_kind(llama_folder: Path) -> None:
    (llama_folder / "model.safetensors").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\n"
    )
    with pytest.raises(CheckpointError, match="is no safetensors file"):
        reader(llama_folder)


def test_config_without_weights(llama_folder: Path) -> None:
    (llama_folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors: there are no weights"):
        reader(llama_folder)


def test_pickle_needs_consent(llama_folder: Path) -> None:
    tensors = load_file(llama_folder / "model.safetensors")
    (llama_folder / "model.safetensors").unlink()
    torch.save(tensors, llama_folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="only as pickle") as raised:
        reader(llama_folder)
    assert "--allow-pickle" in raised.value.hint
    name = "model.norm.weight"
    read = reader(llama_folder, allow_pickle=True).read(name)
    torch.testing.assert_close(read, tensors[name], rtol=0, atol=0)


def test_damaged_pickle(llama_folder: Path) -> None:
    (llama_folder / "model.safetensors").unlink()
    (llama_folder / "pytorch_model.bin").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="can't be loaded"):
        reader(llama_folder, allow_pickle=True)


def test_broken_index(llama_folder: Path) -> None:
    (llama_folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no index of a sharded checkpoint"):
        reader(llama_folder)


def test_quantized_checkpoint(llama_folder: Path) -> None:
    file = llama_folder / "config.json"
    quantization = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"quantization_config": quantization})
    )
    with pytest.raises(UnsupportedModelError, match=r"already quantized \(gptq\)"):
        reader(llama_folder)
