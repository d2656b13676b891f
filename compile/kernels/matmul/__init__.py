"""The linear layer: what it means, how its weights are packed, and its CPU kernel."""

from ingot.compile.kernels.matmul.cpu import build
from ingot.compile.kernels.matmul.packing import pack, unpack
from ingot.compile.kernels.matmul.spec import (
    LinearSpec,
    PackedTensor,
    can_gate,
    effective_activations,
    gate_run,
    packed_tensors,
)

__all__ = [
    "LinearSpec",
    "PackedTensor",
    "build",
    "can_gate",
    "effective_activations",
    "gate_run",
    "pack",
    "packed_tensors",
    "unpack",
]
