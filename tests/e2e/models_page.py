"""Proofs of the families to `docs/models.md`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from ingot.compile.api import CompileResult
from ingot.models.families import FAMILIES, Family

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"

_HEAD = """\
# Models

Ingot imports a decoder-only `transformers` model from the model's own code, so there is no list
of supported models to be on. The families below are those that the tests compile and prove, each
with a tiny configuration that exercises what the second column names. A model that has something
Ingot can't import is refused with the module and its source line ([limits](limits.md)).

*Error* is the largest difference of a logit from eager float32, relative to the largest logit,
over prefill and one-token decode. Greedy text is the same, token for token. *Left to TVM* names
operators that no rewrite or kernel of Ingot's takes in yet: their results are right, but they
cost time. The four that make the table of rotary angles, once a step, are not named.

`pytest tests/e2e/test_families.py --update-golden` writes this page.

| family | what it exercises | error | left to TVM |
| --- | --- | --- | --- |
"""

# Every model computes its cosines and sines once a step; that is not worth a word each time.
_USUAL = {"relax.concat", "relax.cos", "relax.multiply", "relax.sin"}


@dataclass(frozen=True, slots=True)
class Row:
    """What one family's proof showed."""

    name: str
    features: tuple[str, ...]
    error: float
    left: dict[str, int]

    @classmethod
    def of(cls, family: Family, result: CompileResult) -> Row:
        figures = result.manifest.proof.figures
        error = max(figures[phase]["max_error"] for phase in ("prefill", "decode"))
        left = result.report.leftover_operators
        return cls(family.name, family.features, error, dict(left))

    def text(self) -> str:
        left = [
            f"{name.removeprefix('relax.')} {count}"
            for name, count in sorted(self.left.items())
            if name not in _USUAL
        ]
        features = ", ".join(self.features)
        return f"| {self.name} | {features} | {self.error:.0e} | {', '.join(left) or '–'} |"


class ModelsPage:
    """Rows as tests add them; with several workers each keeps its own file until the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, row: Row) -> None:
        path = self._folder / f"{row.name}.json"
        path.write_text(json.dumps(asdict(row)), encoding="utf-8")

    def rows(self) -> list[Row]:
        """The rows so far, in the order of the table of families."""
        found = {
            record["name"]: Row(**{**record, "features": tuple(record["features"])})
            for record in (json.loads(p.read_text("utf-8")) for p in self._folder.glob("*.json"))
        }
        return [found[family.name] for family in FAMILIES if family.name in found]


def format_page(rows: Iterable[Row]) -> str:
    return _HEAD + "\n".join(row.text() for row in rows) + "\n"
