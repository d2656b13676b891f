"""Tuned sizes go to TOML and back; the user's come first; wrong ones are errors."""

from pathlib import Path

import pytest

from ingot.targets import TargetError, load_targets, resolve_target
from ingot.targets.tuned import (
    Tuning,
    describe_tuning,
    find_tuning,
    format_tuning,
    parse_tuning,
    user_folder,
    with_tuning,
    write_tuning,
)

TUNING = Tuning(
    "cpu:x86-64-v3", "Some CPU with 2 threads", "a model", (("matmul_tiles_per_task", 8),)
)
HEAD = 'target = "cpu:a"\ndevice = "b"\nshapes = "c"\n[parameters]\n'
TARGET = resolve_target("cpu:x86-64-v3")


@pytest.fixture(autouse=True)
def user_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def test_round_trip() -> None:
    assert parse_tuning(format_tuning(TUNING), "here") == TUNING


def test_sizes_that_go_together() -> None:
    sizes = (("attention_span", 256), ("matmul_8_rows", (2, 4, 512, 3)))
    tuning = Tuning("cuda:sm_90", "Some GPU", "a model", sizes)
    text = format_tuning(tuning)
    assert "matmul_8_rows = [2, 4, 512, 3]" in text
    assert parse_tuning(text, "here") == tuning
    target = with_tuning(resolve_target("cuda:sm_90"), tuning)
    assert target.sizes("matmul_8_rows", (1, 8, 1024, 4)) == (2, 4, 512, 3)
    assert target.sizes("matmul_16_rows", (2, 4, 512)) == (2, 4, 512)
    with pytest.raises(TargetError, match="it is one number"):
        target.size("matmul_8_rows", 1)
    with pytest.raises(TargetError, match="it is 3 numbers"):
        target.sizes("attention_span", (1, 2, 3))


def test_code_for_several_gpus_takes_the_newest_ones_sizes() -> None:
    several = resolve_target("cuda:sm_80,sm_90")
    assert find_tuning(several) is None
    for arch in ("sm_80", "sm_90"):
        write_tuning(Tuning(f"cuda:{arch}", arch, "a model", (("attention_span", 256),)))
    found = find_tuning(several)
    assert found is not None and found.device == "sm_90"


def test_what_is_written_is_found_and_used(tmp_path: Path) -> None:
    assert find_tuning(TARGET) is None
    assert TARGET.size("matmul_tiles_per_task", 16) == 16
    path = write_tuning(TUNING)
    assert path == tmp_path / "ingot" / "tuned" / "cpu-x86-64-v3.toml"
    assert path.parent == user_folder()
    tuned = with_tuning(TARGET, find_tuning(TARGET))
    assert tuned.size("matmul_tiles_per_task", 16) == 8
    assert tuned.size("matmul_dot_rows", 6) == 6
    assert hash(tuned) != hash(TARGET)


def test_a_report_says_where_sizes_come_from() -> None:
    assert describe_tuning(None, TARGET).endswith("data; `ingot tune` measures them")
    gpu = load_targets()["cuda:sm_90"]
    assert "`ingot tune --target cuda` measures them on a GPU" in describe_tuning(None, gpu)
    measured = "measured on Some CPU with 2 threads, by kernels of a model"
    assert describe_tuning(TUNING, TARGET) == measured
    assert with_tuning(TARGET, None) is TARGET


def test_what_ships_is_for_a_target_that_there_is() -> None:
    for target in load_targets().values():
        tuning = find_tuning(target)
        if tuning is not None:
            assert tuning.target == target.name
            assert dict(tuning.parameters).keys() <= tuning.known.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no tuned sizes"),
        ("x = ", "holds no tuned sizes"),
        (f"{HEAD}other = 1", "no kernel has a size"),
        (f"{HEAD}matmul_8_rows = [1, 8, 1024]", "no kernel has a size called 'matmul_8_rows'"),
        (f"{HEAD}matmul_dot_rows = 0", "is 0; it is a number from 1 on"),
        (f"{HEAD}matmul_dot_rows = [1, true]", "a number from 1 on"),
    ],
)
def test_a_wrong_file_is_an_error(text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        parse_tuning(text, "here")
