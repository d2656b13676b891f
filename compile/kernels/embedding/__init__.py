"""The embedding: rows gathered from the packed table of a linear layer."""

from ingot.compile.kernels.embedding.cpu import build
from ingot.compile.kernels.embedding.spec import EmbeddingSpec

__all__ = ["EmbeddingSpec", "build"]
