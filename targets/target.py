"""A target is data: what the hardware has, read from `data/*.toml`, and what follows from it."""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, fields
from importlib.resources import files
from typing import Any

from ingot.errors import IngotError

Size = int | tuple[int, ...]
"""One of a kernel's sizes, or several that go together."""


class TargetError(IngotError):
    """A target's data is wrong, or no target fits; the message says what and what is allowed."""


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of hardware, as the compiler and the runtime see it.

    `features` are instruction-set names that kernels ask for (`avx512_vnni`), spelled as in
    `/proc/cpuinfo`; sizes are in bytes. A field that does not apply to a kind is zero or empty.
    """

    name: str
    kind: str  # "cpu" or "cuda"
    description: str
    default_scheme: str
    page_size_tokens: int
    tuned: tuple[tuple[str, Size], ...] = ()  # sizes that `ingot tune` measured (targets/tuned.py)
    # CPU
    llvm_triple: str = ""
    llvm_cpu: str = ""
    features: tuple[str, ...] = ()
    vector_bytes: int = 0
    vector_registers: int = 0
    l2_bytes: int = 0  # of one core, or of a whole GPU
    # CUDA
    cuda_arch: str = ""  # the oldest GPU that runs the code
    cuda_archs: tuple[str, ...] = ()  # each with machine code of its own; `archs` is never empty
    max_threads_per_block: int = 0
    shared_memory_bytes: int = 0  # of one block, at most
    # Of the GPU that `example` names, by its data sheet: bytes a second from memory, operations a
    # second of the tensor cores without sparsity.
    example: str = ""
    met: bool = False  # whether Ingot's kernels have run on such a GPU
    multiprocessors: int = 0
    memory_gb_s: int = 0
    bf16_tflops: int = 0
    fp8_tflops: int = 0  # 0 where it has none
    # One a kernel: tiles of 8 rows of x, warps across features and along inputs, inputs of x in
    # shared memory, stages of weights there
    matmul_few_rows: tuple[tuple[int, int, int, int, int], ...] = ()
    matmul_many_rows: str = "mma"  # what more rows are multiplied with: "mma" or "wgmma"

    def __post_init__(self) -> None:
        if self.kind not in ("cpu", "cuda"):
            raise TargetError(f"target {self.name}: kind is {self.kind!r}; it is 'cpu' or 'cuda'")
        if self.kind == "cpu" and self.vector_bytes not in (16, 32, 64):
            raise TargetError(
                f"target {self.name}: vector_bytes is {self.vector_bytes}; it is 16, 32 or 64"
            )
        if self.kind == "cpu" and not (self.llvm_triple and self.llvm_cpu):
            raise TargetError(f"target {self.name}: a CPU needs llvm_triple and llvm_cpu")
        if self.kind == "cuda" and not (
            self.cuda_arch and self.max_threads_per_block and self.shared_memory_bytes
        ):
            raise TargetError(
                f"target {self.name}: a GPU needs cuda_arch, max_threads_per_block "
                "and shared_memory_bytes"
            )
        if self.page_size_tokens <= 0 or self.page_size_tokens % 16:
            raise TargetError(
                f"target {self.name}: page_size_tokens is {self.page_size_tokens}, "
                "not a multiple of 16 (the widest vector of float32)"
            )

    @property
    def architecture(self) -> str:
        """The CPU's architecture as `uname -m` prints it; empty for a GPU."""
        return self.llvm_triple.partition("-")[0]

    @property
    def archs(self) -> tuple[str, ...]:
        """The GPU architectures to make machine code for, the oldest first; empty for a CPU."""
        return self.cuda_archs or ((self.cuda_arch,) if self.cuda_arch else ())

    def size(self, parameter: str, guess: int) -> int:
        """A size of a kernel: the measured one, else the guess from the hardware's data."""
        found = dict(self.tuned).get(parameter, guess)
        if not isinstance(found, int):
            raise TargetError(f"the tuned size {parameter} is {list(found)}; it is one number")
        return found

    def sizes(self, parameter: str, guess: tuple[int, ...]) -> tuple[int, ...]:
        """Several sizes that go together, in the same way."""
        found = dict(self.tuned).get(parameter, guess)
        if not isinstance(found, tuple) or len(found) != len(guess):
            raise TargetError(f"the tuned size {parameter} is {found}; it is {len(guess)} numbers")
        return found

    def has(self, feature: str) -> bool:
        return feature in self.features

    @property
    def has_bfloat16_dot(self) -> bool:
        """Whether it multiplies two bfloat16 pairs and adds them to a float32 lane."""
        return self.has({64: "avx512_bf16", 16: "bf16"}.get(self.vector_bytes, ""))

    @property
    def float32_lanes(self) -> int:
        """How many float32 values one vector register holds."""
        return self.vector_bytes // 4


def parse_target(record: dict[str, Any]) -> Target:
    """Check one TOML record and make a `Target` of it."""
    known = {field.name for field in fields(Target)}
    unknown = sorted(set(record) - known)
    if unknown:
        raise TargetError(f"target {record.get('name', '?')}: unknown fields {', '.join(unknown)}")
    required = {field.name for field in fields(Target) if field.default is MISSING}
    lacking = sorted(required - set(record))
    if lacking:
        raise TargetError(f"target {record.get('name', '?')}: missing fields {', '.join(lacking)}")
    return Target(**{name: _frozen(value) for name, value in record.items()})


def _frozen(value: Any) -> Any:
    """Lists become tuples, so that a target can be hashed."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def load_targets() -> dict[str, Target]:
    """Read every target that ships with Ingot, by name."""
    import tomllib  # the runtime asks for targets only where one doesn't fit

    folder = files("ingot.targets") / "data"
    records = [f.read_text("utf-8") for f in folder.iterdir() if f.name.endswith(".toml")]
    targets = sorted(map(parse_target, map(tomllib.loads, records)), key=_place)
    return {target.name: target for target in targets}


def _place(target: Target) -> list[str | int]:
    """In the order of names, whose numbers are numbers: sm_90 before sm_100."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", target.name)]
