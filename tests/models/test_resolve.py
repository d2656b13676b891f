"""References to models: embedded, folders, the Hub's cache, and what is wrong with the others."""

import json
from pathlib import Path

import pytest

from ingot.errors import ModelError, UnsupportedModelError
from ingot.models.resolve import EMBEDDED, resolve_model


def write_config(folder: Path, **fields: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


def test_folder(llama_folder: Path) -> None:
    source = resolve_model(str(llama_folder))
    assert (source.name, source.revision) == ("tiny-llama", None)
    assert source.config.model_type == "llama"


def test_embedded_models_lie_beside_the_code() -> None:
    for name in EMBEDDED:
        source = resolve_model(name)
        assert source.name == name
        assert source.path.parts[-1] in ("demo", "draft")


def test_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, llama_folder: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path / "hub"
    snapshots = cache / "models--org--name" / "snapshots"
    snapshots.mkdir(parents=True)
    llama_folder.rename(snapshots / commit)
    (snapshots.parent / "refs").mkdir()
    (snapshots.parent / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    source = resolve_model("org/name")
    assert (source.name, source.revision) == ("org/name", commit)
    assert source.config.num_hidden_layers == 2


def test_hub_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="org/absent is neither a folder nor in the Hub cache"):
        resolve_model("org/absent")


@pytest.mark.parametrize("ref", ["./absent", "/absent/folder", "a/b/c", "with space"])
def test_nothing_there(ref: str) -> None:
    with pytest.raises(ModelError, match="there is no model at"):
        resolve_model(ref)


def test_file_and_folder_without_config(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.touch()
    with pytest.raises(ModelError, match="is a file"):
        resolve_model(str(file))
    with pytest.raises(ModelError, match=r"has no config\.json"):
        resolve_model(str(tmp_path))
    (tmp_path / "manifest.json").touch()
    with pytest.raises(ModelError, match="is an artifact: it is compiled already"):
        resolve_model(str(tmp_path))


def test_unknown_architecture(tmp_path: Path) -> None:
    source = resolve_model(str(write_config(tmp_path, model_type="marvel9")))
    with pytest.raises(ModelError, match="no architecture `marvel9`"):
        _ = source.config


def test_remote_code_is_refused(tmp_path: Path) -> None:
    auto_map = {"AutoConfig": "configuration_marvel.MarvelConfig"}
    source = resolve_model(str(write_config(tmp_path, model_type="marvel9", auto_map=auto_map)))
    with pytest.raises(ModelError, match="not trusted") as raised:
        _ = source.config
    assert "--trust-remote-code" in raised.value.hint


def test_models_of_other_kinds(tmp_path: Path) -> None:
    source = resolve_model(str(write_config(tmp_path, model_type="vit")))
    with pytest.raises(UnsupportedModelError, match="`vit` is no causal language model"):
        _ = source.config
    source = resolve_model(str(write_config(tmp_path, model_type="gemma3")))
    with pytest.raises(UnsupportedModelError, match="`gemma3` joins a language model"):
        _ = source.config


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"model_type": "llama", "hidden_size": "x"}'])
def test_broken_config(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        _ = resolve_model(str(tmp_path)).config
