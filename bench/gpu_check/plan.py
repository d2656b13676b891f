"""What a check measures, as data; the prepared folder holds it, so that what runs fits it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ingot.bench.checkpoint import SHAPES, Shape
from ingot.errors import UsageError

PLAN_NAME = "plan.json"
DEMO = "demo"


@dataclass(frozen=True, slots=True)
class Proof:
    """A small model with random weights that is proven, and in which scheme."""

    shape: Shape
    scheme: str


SMALL: Mapping[str, Any] = {
    "num_hidden_layers": 2,
    "vocab_size": 2048,
    "max_position_embeddings": 256,
    # Larger than the default, so that layers matter and the greedy token isn't a near tie.
    "initializer_range": 0.1,
}
LLAMA = Shape(
    "llama",
    {
        **SMALL,
        "hidden_size": 512,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "intermediate_size": 1536,
        "tie_word_embeddings": False,
    },
)
QWEN = Shape(
    "qwen2",
    {
        **SMALL,
        "hidden_size": 448,
        "num_attention_heads": 7,
        "num_key_value_heads": 1,
        "intermediate_size": 1280,
        "tie_word_embeddings": True,
    },
)


@dataclass(frozen=True, slots=True)
class Plan:
    """`shapes` are measured in this order in each of the schemes, beside other ways to run them."""

    shapes: Mapping[str, Shape]
    proofs: Mapping[str, Proof]
    schemes: tuple[str, ...] = ("w4", "bf16")
    batches: tuple[int, ...] = (1, 16, 64)
    context_tokens: int = 512  # of a sequence when its decoding is timed
    decode_steps: int = 32
    prefill_tokens: int = 2048
    max_context_tokens: int = 4096
    upload_bytes: int = 1 << 30
    proves_demo: bool = True
    small_kernels: bool = False  # for emulated GPUs
    archs: tuple[str, ...] = ()  # the GPUs that it was prepared for


FULL = Plan(
    shapes={name: SHAPES[name] for name in ("8b", "0.5b", "1b")},
    proofs={"llama-bf16": Proof(LLAMA, "bf16"), "qwen2-w4": Proof(QWEN, "w4")},
)


def write_plan(folder: Path, plan: Plan) -> None:
    (folder / PLAN_NAME).write_text(json.dumps(asdict(plan), indent=1) + "\n", encoding="utf-8")


def read_plan(folder: Path) -> Plan:
    """What was prepared in a folder."""
    try:
        record = json.loads((folder / PLAN_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{folder} has no {PLAN_NAME}, so nothing is prepared there",
            "python -m ingot.bench.gpu_check prepare FOLDER does that, on any machine",
        ) from None
    shapes = {name: Shape(**shape) for name, shape in record.pop("shapes").items()}
    proofs = {
        name: Proof(Shape(**proof["shape"]), proof["scheme"])
        for name, proof in record.pop("proofs").items()
    }
    rest: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
    return Plan(shapes, proofs, **rest)


def proof_folder(folder: Path, name: str) -> Path:
    """Where a small model's `checkpoint` and `artifact` are."""
    return folder / "proofs" / name


def shape_folder(folder: Path, shape: str) -> Path:
    """Where a shape's configuration is, and in folders named by the schemes its artifacts."""
    return folder / "models" / shape


def artifact_folder(folder: Path, of: Sequence[str]) -> Path:
    """Of a shape in a scheme."""
    shape, scheme = of
    return shape_folder(folder, shape) / scheme


def kernels_folder(folder: Path) -> Path:
    return folder / "kernels"
