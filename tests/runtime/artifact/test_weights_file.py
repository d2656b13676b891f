"""Tensors come back as they went in, aligned, and the files are ordinary safetensors."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from ingot.errors import ArtifactCorruptError, ArtifactError
from ingot.runtime.artifact.manifest import WeightRecord, hash_file
from ingot.runtime.artifact.read_ahead import map_file
from ingot.runtime.artifact.weights_file import (
    ALIGNMENT,
    TensorSpec,
    WeightsWriter,
    map_weights,
    read_header,
    split_into_files,
    storage_dtype,
)

SPECS = [
    TensorSpec("matrix", "float32", (3, 5)),
    TensorSpec("raw", "bfloat16", (31,)),
    TensorSpec("aligned", "int32", (16,)),
    TensorSpec("empty", "int8", (0, 4)),
    TensorSpec("scalar", "uint8", ()),
    TensorSpec("ключ", "float16", (1, 33)),
]


def arrays() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [
        np.asarray(random.integers(0, 99, s.shape)).astype(storage_dtype(s.dtype)) for s in SPECS
    ]


def write(folder: Path, max_file_bytes: int = 1 << 30) -> WeightsWriter:
    with WeightsWriter(folder, SPECS, max_file_bytes) as writer:
        for spec, array in zip(SPECS, arrays(), strict=True):
            writer.append(spec.name, array)
    return writer


@pytest.mark.parametrize(("max_file_bytes", "num_files"), [(1 << 30, 1), (128, 3), (1, 5)])
def test_round_trip(tmp_path: Path, max_file_bytes: int, num_files: int) -> None:
    writer = write(tmp_path, max_file_bytes)
    assert len(writer.files) == num_files
    for expected, actual in zip(arrays(), map_weights(tmp_path, writer.weights), strict=True):
        assert actual.dtype == expected.dtype and actual.shape == expected.shape
        np.testing.assert_array_equal(actual, expected)
        assert actual.size == 0 or actual.ctypes.data % ALIGNMENT == 0
    for file in writer.files:
        path = tmp_path / file.path
        assert (path.stat().st_size, hash_file(path)) == (file.bytes, file.sha256)


def test_order_of_the_table_is_kept(tmp_path: Path) -> None:
    writer = write(tmp_path)
    first, *rest = map_weights(tmp_path, list(reversed(writer.weights)))
    np.testing.assert_array_equal(first, arrays()[-1])
    assert len(rest) == 5


def test_safetensors_reads_it(tmp_path: Path) -> None:
    (file,) = write(tmp_path).files
    with safe_open(tmp_path / file.path, "np") as reader:
        names = {name for name in reader.keys() if not name.startswith("__pad_")}
        assert names == {spec.name for spec in SPECS}
        np.testing.assert_array_equal(reader.get_tensor("matrix"), arrays()[0])


def test_same_tensors_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name)
    one, two = (tmp_path / name / "weights-00001.safetensors" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_writing_a_view_does_not_reach_the_file(tmp_path: Path) -> None:
    writer = write(tmp_path)
    before = hash_file(tmp_path / writer.files[0].path)
    map_weights(tmp_path, writer.weights)[0][:] = 7
    assert hash_file(tmp_path / writer.files[0].path) == before


def test_split_fills_files() -> None:
    specs = [TensorSpec(str(i), "uint8", (size,)) for i, size in enumerate([64, 64, 65, 1, 500])]
    groups = split_into_files(specs, 128)
    assert [[int(spec.name) for spec in group] for group in groups] == [[0, 1], [2], [3], [4]]


def test_wrong_tensors_are_our_bugs(tmp_path: Path) -> None:
    def attempt(name: str, array: np.ndarray) -> None:
        with WeightsWriter(tmp_path, SPECS[:1]) as writer:
            writer.append(name, array)

    with pytest.raises(AssertionError, match="expected matrix, got other"):
        attempt("other", np.zeros((3, 5), np.float32))
    with pytest.raises(AssertionError, match="float64, not float32"):
        attempt("matrix", np.zeros((3, 5)))
    with pytest.raises(AssertionError, match="never written"), WeightsWriter(tmp_path, SPECS):
        pass


def alter_header(path: Path, name: str, field: str, value: object) -> None:
    entries, start = read_header(path, map_file(path))
    entries[name][field] = value
    text = json.dumps(entries, ensure_ascii=False).encode()
    data = path.read_bytes()[start:]
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize(
    ("field", "value"), [("dtype", "F64"), ("shape", [5, 3]), ("data_offsets", [64, 124])]
)
def test_header_and_manifest_disagree(tmp_path: Path, field: str, value: object) -> None:
    writer = write(tmp_path)
    alter_header(tmp_path / writer.files[0].path, "matrix", field, value)
    with pytest.raises(ArtifactCorruptError, match="matrix is not what the manifest says"):
        map_weights(tmp_path, writer.weights)


@pytest.mark.parametrize("data", [b"", b"\x01", b"\xff" * 64, (64).to_bytes(8, "little"), None])
def test_broken_file(tmp_path: Path, data: bytes | None) -> None:
    writer = write(tmp_path)
    path = tmp_path / writer.files[0].path
    path.write_bytes((8).to_bytes(8, "little") + b"not json" if data is None else data)
    with pytest.raises(ArtifactCorruptError):
        map_weights(tmp_path, writer.weights)


def test_truncated_file(tmp_path: Path) -> None:
    writer = write(tmp_path)
    path = tmp_path / writer.files[0].path
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.raises(ArtifactCorruptError, match="ключ"):
        map_weights(tmp_path, writer.weights)


def test_misaligned_tensor(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "weights-00001.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"abcd")
    offset = 8 + len(header)
    record = WeightRecord(
        name="a", dtype="uint8", shape=(4,), file=path.name, offset=offset, bytes=4, sha256="0" * 64
    )
    with pytest.raises(ArtifactCorruptError, match=f"starts at byte {offset}"):
        map_weights(tmp_path, [record])


def test_disk_full(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        spec = TensorSpec("big", "uint8", (1 << 20,))
        with pytest.raises(ArtifactError, match="No space left"):
            with WeightsWriter(tmp_path, [spec]) as writer:
                writer.append("big", np.zeros(1 << 20, np.uint8))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_unwritable_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="can't write the weights"):
        with WeightsWriter(tmp_path / "absent", SPECS[:1]) as writer:
            writer.append("matrix", np.zeros((3, 5), np.float32))
