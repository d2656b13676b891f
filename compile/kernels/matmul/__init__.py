"""The linear layer: what it is, and how its weights are packed. Kernels are in a file a target."""

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
    "can_gate",
    "effective_activations",
    "gate_run",
    "pack",
    "packed_tensors",
    "unpack",
]
