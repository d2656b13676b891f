"""The embedding: rows gathered from the packed table of a linear layer."""

from ingot.compile.kernels.embedding.spec import EmbeddingSpec

__all__ = ["EmbeddingSpec"]
