"""Turns tensors into 64-byte-aligned safetensors files as they stream by, and maps them back.

A file is `u64 header length | JSON header, padded with spaces | data`. Every tensor starts at a
multiple of 64 bytes of the file, so that a mapped tensor can be given to compiled code as it is
(LLVM's vector loads trap on anything less). safetensors allows no holes between tensors:
`__pad_N` tensors fill them.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ingot.errors import ArtifactCorruptError, ArtifactError
from ingot.runtime.artifact.manifest import DType, FileRecord, WeightRecord
from ingot.runtime.artifact.read_ahead import Bytes, map_file, read_ahead

ALIGNMENT = 64
MAX_FILE_BYTES = 4 << 30
MAX_HEADER_BYTES = 100 << 20  # the safetensors library refuses longer ones as well
PAD_PREFIX = "__pad_"

CODES: dict[str, str] = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int8": "I8",
    "uint8": "U8",
    "int16": "I16",
    "uint16": "U16",
    "int32": "I32",
    "uint32": "U32",
}
assert set(CODES) == set(get_args(DType))


def storage_dtype(dtype: str) -> np.dtype[Any]:
    """The NumPy type that holds a dtype: bfloat16 is held as its raw 16 bits."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    name: str
    dtype: DType
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * storage_dtype(self.dtype).itemsize


def padding_after(num_bytes: int) -> int:
    """Bytes between a tensor and the next."""
    return -num_bytes % ALIGNMENT


def format_header(specs: Sequence[TensorSpec]) -> bytes:
    """How a file of these tensors begins."""
    entries: dict[str, Any] = {}
    offset = 0
    for index, spec in enumerate(specs):
        end = offset + spec.num_bytes
        entries[spec.name] = {
            "dtype": CODES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [offset, end],
        }
        offset = end + padding_after(end)
        if offset > end:
            entries[f"{PAD_PREFIX}{index}"] = {
                "dtype": "U8",
                "shape": [offset - end],
                "data_offsets": [end, offset],
            }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * padding_after(8 + len(text))
    return len(text).to_bytes(8, "little") + text


def split_into_files(
    specs: Sequence[TensorSpec], max_file_bytes: int = MAX_FILE_BYTES
) -> list[list[TensorSpec]]:
    """Cut the tensors, in order, into files of at most `max_file_bytes` (or of one tensor)."""
    groups: list[list[TensorSpec]] = []
    room = 0
    for spec in specs:
        if not groups or spec.num_bytes > room:
            groups.append([])
            room = max_file_bytes
        groups[-1].append(spec)
        room -= spec.num_bytes + padding_after(spec.num_bytes)
    return groups


def file_name(number: int) -> str:
    """Of an artifact's weights, counted from 1."""
    return f"weights-{number:05d}.safetensors"


class _FileWriter:
    """One file that is being written; both hashes grow with it, so nothing is read back."""

    def __init__(self, path: Path, specs: Sequence[TensorSpec]) -> None:
        self.path = path
        self._stream: BufferedWriter = path.open("wb")
        self._hash = hashlib.sha256()
        header = format_header(specs)
        self.offset = 0
        total = len(header) + sum(s.num_bytes + padding_after(s.num_bytes) for s in specs)
        # A full disk shows itself now and not after an hour of quantizing.
        os.posix_fallocate(self._stream.fileno(), 0, total)
        self.write(header)

    def write(self, data: bytes | memoryview) -> None:
        self._stream.write(data)
        self._hash.update(data)
        self.offset += len(data)

    def close(self) -> FileRecord:
        self._stream.flush()
        os.fsync(self._stream.fileno())
        # What was written bit by bit is cached in small pages; who reads it next wants huge ones.
        os.posix_fadvise(self._stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._stream.close()
        return FileRecord(path=self.path.name, bytes=self.offset, sha256=self._hash.hexdigest())

    def abandon(self) -> None:
        self._stream.close()


class WeightsWriter:
    """Writes `weights-00001.safetensors`, … into a folder, tensor by tensor in the given order.

    with WeightsWriter(folder, specs) as writer:
        for spec in specs:
            writer.append(spec.name, array)
    writer.weights, writer.files   # records for the manifest
    """

    def __init__(
        self, folder: Path, specs: Sequence[TensorSpec], max_file_bytes: int = MAX_FILE_BYTES
    ) -> None:
        names = [spec.name for spec in specs]
        assert len(set(names)) == len(names), "two tensors have the same name"
        assert not any(name.startswith(PAD_PREFIX) or name == "__metadata__" for name in names)
        self.weights: list[WeightRecord] = []
        self.files: list[FileRecord] = []
        self._folder = folder
        self._groups = split_into_files(specs, max_file_bytes)
        self._pending: list[TensorSpec] = []
        self._current: _FileWriter | None = None

    def __enter__(self) -> WeightsWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            if self._current is not None:
                self._current.abandon()
            return
        with self._explained():
            self._finish_file()
        assert not self._groups, f"{self._groups[0][0].name} was announced but never written"

    def append(self, name: str, array: NDArray[Any]) -> WeightRecord:
        """Write the next tensor. It must be the one announced, of its dtype and shape."""
        with self._explained():
            return self._append(name, array)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArtifactError(
                f"can't write the weights to {self._folder}: {error.strerror}"
            ) from None

    def _append(self, name: str, array: NDArray[Any]) -> WeightRecord:
        if not self._pending:
            self._start_file()
        spec = self._pending.pop(0)
        assert spec.name == name, f"expected {spec.name}, got {name}"
        assert array.dtype == storage_dtype(spec.dtype), f"{name}: {array.dtype}, not {spec.dtype}"
        assert array.shape == spec.shape, f"{name}: {array.shape}, not {spec.shape}"
        assert self._current is not None
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        offset = self._current.offset
        self._current.write(data)
        self._current.write(b"\0" * padding_after(len(data)))
        record = WeightRecord(
            name=name,
            dtype=spec.dtype,
            shape=spec.shape,
            file=self._current.path.name,
            offset=offset,
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
        )
        self.weights.append(record)
        return record

    def _start_file(self) -> None:
        self._finish_file()
        assert self._groups, "more tensors than announced"
        self._pending = self._groups.pop(0)
        path = self._folder / file_name(len(self.files) + 1)
        self._current = _FileWriter(path, self._pending)

    def _finish_file(self) -> None:
        assert not self._pending, f"{self._pending[0].name} was announced but never written"
        if self._current is not None:
            self.files.append(self._current.close())
            self._current = None


def read_header(path: Path, data: Bytes) -> tuple[dict[str, Any], int]:
    """The tensors' entries, and where in the file's bytes the data starts.

    From the mapped bytes: reading the file itself would cache some of it in small pages.
    """
    length = int.from_bytes(data[:8].tobytes(), "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, data.size - 8):
        raise ArtifactCorruptError(f"{path} is not a safetensors file, or it is truncated")
    try:
        entries = json.loads(data[8 : 8 + length].tobytes())
    except ValueError:
        raise ArtifactCorruptError(f"{path} has a broken header") from None
    if not isinstance(entries, dict):
        raise ArtifactCorruptError(f"{path} has a broken header")
    return entries, 8 + length


def map_weights(folder: Path, weights: Sequence[WeightRecord]) -> list[NDArray[Any]]:
    """Map the tensors of a manifest, in its order, without waiting for them to be read.

    The views are writable but private: DLPack refuses read-only memory, and nothing that is written
    reaches the file. Each keeps its file's mapping alive.
    """
    files = {name: _MappedFile(folder / name) for name in dict.fromkeys(w.file for w in weights)}
    read_ahead([file.data for file in files.values()])
    return [files[weight.file].view(weight) for weight in weights]


class _MappedFile:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = map_file(path)
        self.entries, self.data_start = read_header(path, self.data)

    def view(self, weight: WeightRecord) -> NDArray[Any]:
        start = weight.offset - self.data_start
        expected = {
            "dtype": CODES[weight.dtype],
            "shape": list(weight.shape),
            "data_offsets": [start, start + weight.bytes],
        }
        spec = TensorSpec(weight.name, weight.dtype, weight.shape)
        if (
            self.entries.get(weight.name) != expected
            or spec.num_bytes != weight.bytes
            or weight.offset + weight.bytes > self.data.size
        ):
            raise ArtifactCorruptError(
                f"{self.path}: the tensor {weight.name} is not what the manifest says"
            )
        data = self.data[weight.offset : weight.offset + weight.bytes]
        if weight.offset % ALIGNMENT:
            raise ArtifactCorruptError(
                f"{self.path}: the tensor {weight.name} starts at byte {weight.offset}, "
                f"not at a multiple of {ALIGNMENT}"
            )
        array: NDArray[Any] = np.asarray(data).view(storage_dtype(weight.dtype))
        return array.reshape(weight.shape)
