"""`ingot.*` operators to calls of kernels, weights to the tensors that the artifact stores.

`step_function` builds the function around the operators, `operators` and `attention` hold what
becomes of each, and `emitter` what all of them use. Operators without a kernel of ours stay core
Relax and are legalized later.
"""

from ingot.compile.lowering.step_function import LoweredModel, Lowering

__all__ = ["LoweredModel", "Lowering"]
