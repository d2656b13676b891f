"""A captured `transformers` model to a Relax module of `ingot.*` and core operators."""

from ingot.compile.importer.program import ImportedModel, import_program

__all__ = ["ImportedModel", "import_program"]
