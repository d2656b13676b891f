"""The report grows by stages and rewrites; progress is told; dumps are numbered in their order."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingot.compile.report import CompileReport, Observer, StageReport
from tests.compile.graphs import TOKENS, trace

MODULE = trace(lambda emit, x: emit(x + x), {"x": (1, TOKENS, 6)})


def test_stage_is_timed_and_told() -> None:
    told: list[tuple[str, int, int]] = []
    observer = Observer(lambda *step: told.append(step), None)
    with observer.stage("import"):
        assert told == [("import", 0, 1)]
    assert told == [("import", 0, 1), ("import", 1, 1)]
    (stage,) = observer.report.stages
    assert stage.name == "import" and stage.seconds >= 0 and stage.num_matched is None


def test_stage_that_fails_is_not_reported() -> None:
    told: list[tuple[str, int, int]] = []
    observer = Observer(lambda *step: told.append(step), None)
    with pytest.raises(RuntimeError), observer.stage("import"):
        raise RuntimeError
    assert observer.report.stages == [] and told == [("import", 0, 1)]


def test_rewrites_that_run_several_times_are_summed() -> None:
    observer = Observer(None, None)
    observer.rewritten("clean_up", 0.1, 3)
    with observer.stage("lower"):
        pass
    observer.rewritten("fuse_norm", 0.1, 0)
    observer.rewritten("clean_up", 0.1, 4)
    assert observer.report.rewrites == {"clean_up": 7, "fuse_norm": 0}


def test_as_dict() -> None:
    report = CompileReport(
        [StageReport("import", 1.23456), StageReport("clean_up", 0.5, 2)],
        {"relax.sin": 1, "relax.cos": 1},
        ["spills_kernel", "spills_kernel"],  # on two kinds of GPU
    )
    assert report.as_dict() == {
        "stages": [
            {"name": "import", "seconds": 1.235, "matched": None},
            {"name": "clean_up", "seconds": 0.5, "matched": 2},
        ],
        "leftover_operators": {"relax.cos": 1, "relax.sin": 1},
        "sizes": "",
        "pending": "",
        "spilling_kernels": ["spills_kernel"],
    }


def test_dumps(tmp_path: Path) -> None:
    observer = Observer(None, tmp_path / "ir")
    for name in ("import", "clean_up", "clean_up"):
        observer.dump(MODULE, name)
    names = sorted(path.name for path in (tmp_path / "ir").iterdir())
    assert names == ["00-import.py", "01-clean_up.py", "02-clean_up.py"]
    assert "R.add" in (tmp_path / "ir" / names[0]).read_text()


def test_no_dump() -> None:
    Observer(None, None).dump(MODULE, "import")
