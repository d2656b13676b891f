"""Parts end by themselves, by an error or by the clock, and each says so."""

import time
from pathlib import Path

from ingot.bench.gpu_check.parts import Part, Runner, list_parts
from ingot.bench.gpu_check.plan import FULL, Plan, read_plan, write_plan


def runner(folder: Path, seconds: float) -> Runner:
    return Runner(folder, time.monotonic() + seconds, folder / "out.log")


def test_a_part_is_not_begun_without_time(tmp_path: Path) -> None:
    record = runner(tmp_path, 5).run(Part("eager", 20, ("8b",)))
    assert record.left_out == "it takes about 20 s, and no such time was left" and record.ok


def test_a_part_is_ended_by_the_clock(tmp_path: Path) -> None:
    write_plan(tmp_path, Plan({}, {}))
    started = time.monotonic()
    record = runner(tmp_path, 0.1).run(Part("proof", 0, ("absent",)))
    assert time.monotonic() - started < 10
    assert not record.ok and record.failed


def test_refusals_and_crashes_are_told(tmp_path: Path) -> None:
    record = runner(tmp_path, 60).run(Part("kernels", 0))
    assert record.failed == [f"kernels: {tmp_path} has no plan.json, so nothing is prepared there"]
    write_plan(tmp_path, Plan({}, {}))
    record = runner(tmp_path, 60).run(Part("kernels", 0))
    assert "FileNotFoundError" in record.failed[0] and not record.ok


def test_plans_come_back(tmp_path: Path) -> None:
    write_plan(tmp_path, FULL)
    assert read_plan(tmp_path) == FULL


def test_the_largest_shape_comes_first() -> None:
    names = [part.name for part in list_parts(FULL)]
    assert names[:3] == ["limits", "kernels", "proof demo"]
    assert names.index("torch-compile 8b") < names.index("ingot 0.5b w4")
    assert names[-1] == "torch-compile 1b"
    assert sum(part.about_s for part in list_parts(FULL)) < 580
