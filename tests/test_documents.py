"""What the documents list is what exists."""

import re
from pathlib import Path

from ingot.compile.rewrites import REWRITE_NAMES
from ingot.compile.schemes import FORMATS, SCHEMES

ROOT = Path(__file__).resolve().parents[1]


def section(document: str, title: str) -> str:
    text = (ROOT / document).read_text(encoding="utf-8")
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_rewrite_is_described() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", section("docs/compile.md", "Rewrites"), re.MULTILINE)
    assert listed == list(REWRITE_NAMES)


def test_every_scheme_and_format_is_described() -> None:
    text = section("docs/compile.md", "Schemes")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(SCHEMES)
    assert all(f"`{code}`" in text for code in FORMATS)


def test_every_package_has_its_sentence() -> None:
    text = (ROOT / "docs/structure.md").read_text(encoding="utf-8")
    for part in ("models", "compile", "targets", "runtime", "bench"):
        assert f"| `{part}/` | `ingot.{part}` |" in text
        for init in (ROOT / part).glob("*/__init__.py"):
            assert f"| `{part}/{init.parent.name}/` |" in text, f"docs/structure.md: {init.parent}"
