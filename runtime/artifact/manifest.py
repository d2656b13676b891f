"""Turns an artifact's `manifest.json` into checked records, and records into stable bytes.

The manifest is the contract between `ingot.compile`, which writes it, and `ingot.runtime`, which
reads it and guesses nothing. It holds nothing that depends on the time or on the machine that
wrote it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from ingot.errors import ArtifactCorruptError, ArtifactError, ArtifactVersionError
from ingot.runtime.artifact.record import FieldError, Record, at_least, matches
from ingot.runtime.artifact.work import Amount, Count, WorkRecord

SCHEMA_VERSION = 2
MANIFEST_NAME = "manifest.json"
CODE_NAME = "model.so"
LAUNCHES_NAME = "kernels.json"
# Functions of the code beside those of `FunctionsRecord`: one allocates an arena, and one for each
# function in `StepRecord.workspace` lays out that function's tensors in it.
ALLOCATE = "allocate"
VIEWS_SUFFIX = "_views"
_MAKE_ONE = "make one with `ingot compile MODEL --out FOLDER`"


def cubin_name(cuda_arch: str) -> str:
    """The file beside `model.so` with the kernels' machine code for one kind of GPU."""
    return f"kernels-{cuda_arch}.cubin"


def ptx_name(cuda_arch: str) -> str:
    """The file with the kernels' assembly, which the driver of a newer GPU compiles."""
    return f"kernels-{cuda_arch}.ptx"


def device_code_names(cuda_archs: Sequence[str]) -> tuple[str, ...]:
    """All files with kernels for some GPUs, the oldest first, and how they are launched."""
    return (*map(cubin_name, cuda_archs), ptx_name(cuda_archs[-1]), LAUNCHES_NAME)


DType = Literal[
    "float32", "float16", "bfloat16", "int8", "uint8", "int16", "uint16", "int32", "uint32"
]


def _inside_folder(path: str) -> str:
    """Refuse a path that leads out of the artifact: an artifact may come from a stranger."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise FieldError(f"{path!r} is not a path inside the artifact")
    return path


RelativePath = Annotated[str, _inside_folder]
Positive = Annotated[int, at_least(1)]
Sha256 = Annotated[str, matches("[0-9a-f]{64}")]


class ModelRecord(Record):
    """Where the weights and the graph came from."""

    name: str
    source: str
    revision: str | None
    architecture: str
    model_type: str
    config: dict[str, Any]
    num_parameters: Count


class TargetRecord(Record):
    """What the machine must have. `features` are spelled as in `/proc/cpuinfo`.

    `cuda_arch` is the oldest GPU that runs it, `cuda_archs` are those with machine code.
    """

    name: str
    kind: Literal["cpu", "cuda"]
    llvm_triple: str = ""
    llvm_cpu: str = ""
    features: tuple[str, ...] = ()
    cuda_arch: str = ""
    cuda_archs: tuple[str, ...] = ()
    page_size_tokens: Positive
    # The kernels' sizes that were measured, not guessed: numbers, or several that go together.
    tuned: dict[str, Positive | tuple[Positive, ...]] = {}

    @property
    def architecture(self) -> str:
        """The architecture of the CPU, or of the one beside the GPU, as `uname -m` prints it."""
        return self.llvm_triple.partition("-")[0]


class SchemeRecord(Record):
    """How the weights are stored; `keep` holds the user's overrides, pattern to format."""

    name: str
    linear: str
    embedding: str
    head: str
    kv_dtype: str
    activations: str
    keep: dict[str, str] = {}


class FunctionsRecord(Record):
    """The names of the functions in `model.so`. Artifacts made before there was `embed` have none,
    and run all the same. Those for GPUs alone have the last two."""

    step: str = "step"
    trace: str = "trace"
    sample: str = "sample"
    penalize: str = "penalize"
    embed: str | None = None
    mask: str | None = None
    logprobs: str | None = None


class StepRecord(Record):
    vocab_size: Positive
    max_context_tokens: Positive
    num_layers: Positive
    hidden_size: Positive
    functions: FunctionsRecord = FunctionsRecord()
    workspace: dict[str, Amount] = {}
    """By function: the bytes of memory that it takes for its tensors. One that isn't named here
    allocates them in each call, as all do in artifacts made before there was a workspace."""


class KVSlotRecord(Record):
    """A K pool `[pages, kv_heads, key_dim, page_size]`, a V pool `[.., page_size, value_dim]`.

    `window` is how many tokens back the layer looks, 0 for all of them.
    """

    kv_heads: Positive
    key_dim: Positive
    value_dim: Positive
    window: Count
    dtype: Literal["float32", "float16", "bfloat16"]

    @property
    def token_bytes(self) -> int:
        """What the key and the value of one token take."""
        element = 4 if self.dtype == "float32" else 2
        return self.kv_heads * (self.key_dim + self.value_dim) * element


class WeightRecord(Record):
    """One argument of the step function; `offset` counts from the start of the file."""

    name: str
    dtype: DType
    shape: tuple[Count, ...]
    file: RelativePath
    offset: Count
    bytes: Count
    sha256: Sha256


class FileRecord(Record):
    path: RelativePath
    bytes: Count
    sha256: Sha256


class KernelRecord(Record):
    """What a kernel takes on one kind of GPU: a thread's registers and spills, a block's threads
    and shared memory. `grid` is how many blocks there are, in the step's dimensions."""

    name: str
    arch: str = ""
    grid: tuple[str, ...] = ()
    threads: Count = 0
    registers: Count
    shared_bytes: Count
    spill_bytes: Count


class RewriteRecord(Record):
    """How often a rewrite of the graph matched."""

    name: str
    matched: Count


class ProofRecord(Record):
    """What comparing compiled with eager showed."""

    status: Literal["proven", "pending", "failed", "unproven"]
    figures: dict[str, Any] = {}


class Manifest(Record):
    """All of an artifact but its bytes, in the order of its file: what a person looks for comes
    before the long lists. `files` lists every file beside the manifest itself."""

    schema_version: Literal[2] = 2
    ingot_version: str
    model: ModelRecord
    target: TargetRecord
    scheme: SchemeRecord
    step: StepRecord
    versions: dict[str, str]
    proof: ProofRecord
    rewrites: tuple[RewriteRecord, ...] = ()
    files: tuple[FileRecord, ...]
    kv_slots: tuple[KVSlotRecord, ...]
    kernels: tuple[KernelRecord, ...] = ()
    work: tuple[WorkRecord, ...] = ()  # of the step's kernels, in the order of their first call
    weights: tuple[WeightRecord, ...]

    @property
    def page_size_tokens(self) -> int:
        return self.target.page_size_tokens


def format_manifest(manifest: Manifest) -> str:
    """Write a manifest as JSON: its fields in their order, those inside them sorted. The second
    line is the hash of all other lines."""
    record = manifest.model_dump(mode="json")
    ordered = {
        name: json.loads(json.dumps(value, sort_keys=True)) for name, value in record.items()
    }
    text = json.dumps(ordered, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    version, separator, rest = text.partition(",\n")
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{version},\n "sha256": "{digest}"{separator}{rest}'


def write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST_NAME).write_text(format_manifest(manifest), encoding="utf-8")


def parse_manifest(text: str, where: Path) -> Manifest:
    """Check version, then fields, then hash."""
    try:
        record = json.loads(text)
    except ValueError as error:
        raise ArtifactCorruptError(f"{where} is not JSON ({error})") from None
    if not isinstance(record, dict):
        raise ArtifactCorruptError(f"{where} holds a {type(record).__name__}, not an object")
    version = record.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise ArtifactVersionError(
            f"{where} has schema version {version!r}; this Ingot reads version {SCHEMA_VERSION}",
            hint="compile the model again with this version of Ingot",
        )
    written = record.pop("sha256", None)
    try:
        manifest = Manifest.model_validate(record)
    except FieldError as error:
        raise ArtifactCorruptError(f"{where} is not a manifest ({error})") from None
    # Without its own line, the text is what was hashed: nothing need be written again.
    unsigned = text.replace(f' "sha256": "{written}",\n', "", 1)
    if hashlib.sha256(unsigned.encode()).hexdigest() != written:
        raise ArtifactCorruptError(f"{where} was altered after it was written")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest alone, whatever the machine: what `ingot inspect` shows."""
    if not folder.exists():
        raise ArtifactError(f"there is no artifact at {folder}", _MAKE_ONE)
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is a file; an artifact is a folder with a {MANIFEST_NAME}")
    path = folder / MANIFEST_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ArtifactError(
            f"{folder} has no {MANIFEST_NAME}, so it is not an artifact",
            hint=_MAKE_ONE,
        ) from None
    except UnicodeDecodeError as error:
        raise ArtifactCorruptError(f"{path} is not UTF-8 ({error.reason})") from None
    return parse_manifest(text, path)


def hash_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe_files(folder: Path, names: Sequence[str]) -> tuple[FileRecord, ...]:
    """Size and hash of files already written to an artifact's folder."""
    return tuple(
        FileRecord(path=name, bytes=(folder / name).stat().st_size, sha256=hash_file(folder / name))
        for name in sorted(names)
    )
