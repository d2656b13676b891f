"""Finds the tensors of a checkpoint folder: which file, which dtype and shape, checked for damage.

Reads headers only. A safetensors file is an 8-byte length, a JSON header and the data, so a
truncated one shows without reading the data.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.errors import CheckpointError

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
_LARGEST_HEADER_BYTES = 100_000_000  # the safetensors library's own limit


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file of the checkpoint."""

    file: Path
    shape: tuple[int, ...]


def weight_files(folder: Path, *, allow_pickle: bool) -> tuple[str, ...]:
    """The names of the files that hold the weights: what the index lists, or the single file.

    Where a folder shows neither yet (a Hub snapshot before its weights), the single file's name.
    """
    for name in (SAFETENSORS, PICKLE) if allow_pickle else (SAFETENSORS,):
        index = folder / f"{name}.index.json"
        if index.is_file():
            return tuple(sorted(set(_weight_map(index).values())))
        if (folder / name).is_file():
            return (name,)
    return (SAFETENSORS,)


def _weight_map(index: Path) -> dict[str, str]:
    try:
        weight_map = json.loads(index.read_text())["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{index} is no index of a sharded checkpoint: {error}") from error
    return {str(name): str(file) for name, file in weight_map.items()}


def find_tensors(folder: Path, *, allow_pickle: bool) -> dict[str, StoredTensor]:
    """Every tensor of the checkpoint by its name in the file."""
    names = weight_files(folder, allow_pickle=allow_pickle)
    if not (folder / names[0]).is_file() and not allow_pickle:
        pickles = [p.name for p in sorted(folder.glob("*.bin"))] + [
            p.name for p in sorted(folder.glob("*.pt"))
        ]
        if pickles:
            raise CheckpointError(
                f"{folder} has weights only as pickle ({pickles[0]}), "
                "which can run code while it loads",
                "convert it to safetensors, or give --allow-pickle if you trust its author",
            )
    found: dict[str, StoredTensor] = {}
    for name in names:
        path = folder / name
        if not path.is_file():
            raise CheckpointError(
                f"{folder} has no {name}: there are no weights", "config.json alone is no model"
            )
        read = _pickle_tensors if path.suffix == ".bin" else _safetensors_tensors
        found.update(read(path))
    return found


def _safetensors_tensors(path: Path) -> Iterator[tuple[str, StoredTensor]]:
    header, data_bytes = _read_header(path)
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            end, shape = int(entry["data_offsets"][1]), tuple(int(n) for n in entry["shape"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CheckpointError(f"{path} has a broken header at tensor {name}") from error
        if end > data_bytes:
            raise CheckpointError(
                f"{path} is truncated: {name} ends at byte {end} of its data, "
                f"the file has {data_bytes}",
                "download or copy the file again",
            )
        yield name, StoredTensor(path, shape)


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The JSON header and how many bytes follow it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        header_bytes = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if size < 8 + header_bytes and header_bytes <= _LARGEST_HEADER_BYTES or len(prefix) < 8:
            raise CheckpointError(
                f"{path} is truncated: it ends within its header ({size} bytes)",
                "download or copy the file again",
            )
        if header_bytes > _LARGEST_HEADER_BYTES:
            raise CheckpointError(f"{path} is no safetensors file")
        try:
            header = json.loads(file.read(header_bytes))
        except ValueError as error:
            raise CheckpointError(f"{path} is no safetensors file: {error}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} is no safetensors file")
    return header, size - 8 - header_bytes


def _pickle_tensors(path: Path) -> Iterator[tuple[str, StoredTensor]]:
    for name, tensor in load_pickle(path).items():
        yield name, StoredTensor(path, tuple(tensor.shape))


def load_pickle(path: Path) -> dict[str, Any]:
    """A pickle checkpoint mapped, not copied; torch's restricted unpickler runs no code in it."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # torch raises pickle, zip and runtime errors alike
        raise CheckpointError(f"{path} can't be loaded: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, not a state dict")
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
