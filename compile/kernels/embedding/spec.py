"""Turn an embedding table into the packed matrix of a linear layer of the same shape.

A model with tied embeddings stores its table once: the rows are gathered from the very tensors
that the kernel of `lm_head` reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from ingot.compile.kernels.matmul.spec import Activations, LinearSpec
from ingot.compile.schemes import WeightFormat


@dataclass(frozen=True, slots=True)
class EmbeddingSpec:
    """`out[n, hidden_size] = table[token_ids]`, the table packed as the linear `table` is.

    `activations` is the one of the linear that shares the table: it decides the layout, not what
    is computed here.
    """

    vocab_size: int
    hidden_size: int
    format: WeightFormat
    activations: Activations = "float32"

    @property
    def table(self) -> LinearSpec:
        """The linear layer whose packed tensors this kernel reads."""
        return LinearSpec(
            self.vocab_size, self.hidden_size, self.format, self.activations, has_bias=False
        )
