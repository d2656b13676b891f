"""Whole comparisons: backends of standard-library Python, then real ones on a tiny model."""

import dataclasses
import json
from pathlib import Path

import pytest

from ingot.bench.compare import compare
from ingot.bench.limits.record import Limits, stored_path, write_limits
from ingot.bench.prompts import Case
from ingot.errors import ModelError, UsageError

BACKENDS = """
from ingot.bench.backends.base import StepTimer

class Echo:
    def availability(self, setting):
        return None
    def prepare(self, setting):
        pass
    def load(self, setting):
        pass
    def generate(self, prompts, max_new_tokens):
        timer = StepTimer()
        timer.start()
        for step in range(max_new_tokens):
            timer.step([prompt[step % len(prompt)] for prompt in prompts])
        return timer.finish()
    def describe(self):
        return {}
    def close(self):
        pass

class Absent(Echo):
    def availability(self, setting):
        return "nowhere isn't installed"
"""


@pytest.fixture(autouse=True)
def fake_backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake_backends.py").write_text(BACKENDS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_report_and_plots_are_written(tiny_llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "results" / "run.json"
    lines: list[str] = []
    report = compare(
        tiny_llama,
        backends=["fake_backends:Echo", "fake_backends:Absent"],
        prompt_lengths=[5, 17],
        batch_sizes=[1, 3],
        new_tokens=4,
        repetitions=2,
        threads=1,
        out=out,
        work_folder=tmp_path / "work",
        progress=lines.append,
    )
    assert json.loads(out.read_text()) == json.loads(json.dumps(dataclasses.asdict(report)))
    assert sorted(file.name for file in out.parent.iterdir()) == [
        "run-decode.png",
        "run-prefill.png",
        "run.json",
    ]
    echo, absent = report.backends
    assert [found.case for found in echo.cases] == list(report.cases)
    assert report.cases == (Case(5, 1), Case(5, 3), Case(17, 1), Case(17, 3))
    # two turns of two repetitions
    assert all(len(found.samples) == 4 and found.repeatable for found in echo.cases)
    assert echo.load_s is not None and echo.load_s.count == 2
    assert (absent.status, absent.reason) == ("unavailable", "nowhere isn't installed")
    assert lines[0] == "fake_backends:Echo: preparing"
    assert (tmp_path / "work" / "fake_backends-Echo" / "measure.log").exists()


def test_compiled_and_eager_agree(
    tiny_llama: Path, tiny_artifact: Path, limits: Limits, user_cache: Path
) -> None:
    write_limits(limits, stored_path(1))
    report = compare(
        tiny_llama,
        artifact=tiny_artifact,
        backends=["eager", "compiled"],
        prompt_lengths=[17],
        batch_sizes=[2],
        new_tokens=5,
        repetitions=1,
        threads=1,
    )
    assert report.settings.quant == "f32"
    for backend in report.backends:
        assert backend.status == "measured", backend.reason
        (found,) = backend.cases
        assert found.agreement is not None
        # two turns of two texts: the first turn's are compared
        assert found.agreement.num_equal_texts == found.agreement.num_texts == 2
        assert backend.peak_memory_bytes is not None and backend.peak_memory_bytes > 10 << 20
    assert report.ratio_to_eager("compiled", Case(17, 2), "decode_tokens_per_s") is not None
    (prediction,) = report.predictions
    assert prediction.case == Case(17, 2)
    assert 0 < prediction.tpot_s <= prediction.ttft_s


def test_artifact_of_a_folder_needs_the_folder(tiny_artifact: Path) -> None:
    with pytest.raises(UsageError, match="was made from a folder called"):
        compare(tiny_artifact)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "int8"}, "dtype 'int8' isn't one of float32, bfloat16, float16"),
        ({"device": "tpu"}, "device 'tpu' isn't one of cpu, cuda"),
        ({"backends": ["vllm"]}, "no backend is called 'vllm'"),
        ({"prompt_lengths": []}, "each prompt length is 1 or more"),
        ({"batch_sizes": [0]}, "each batch size is 1 or more"),
        ({"batch_sizes": [2, 2]}, "none is given twice"),
        ({"new_tokens": 1}, "each number of new tokens is 2 or more"),
        ({"threads": 0}, "each number of threads is 1 or more"),
        ({"out": Path("report.txt")}, "report.txt isn't a .json file"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compare("demo", **changes)  # type: ignore[arg-type]


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        compare(tmp_path, backends=["eager"])
