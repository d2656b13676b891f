"""Workers that end well and badly, with backends that import nothing heavy."""

from pathlib import Path

import pytest

from ingot.bench.backends.base import Setting
from ingot.bench.process import run_worker
from ingot.bench.worker import Job, job_from_json, job_to_json

BACKENDS = """
import os, signal, sys
from ingot.bench.backends.base import StepTimer
from ingot.errors import ModelError

class Counting:
    name = "counting"
    def availability(self, setting):
        return None
    def prepare(self, setting):
        (setting.folder / "export").write_text("made")
    def load(self, setting):
        assert (setting.folder / "export").read_text() == "made"
        self.threads = os.environ["OMP_NUM_THREADS"]
    def generate(self, prompts, max_new_tokens):
        timer = StepTimer()
        timer.start()
        for step in range(max_new_tokens):
            timer.step([prompt[-1] + 1 + step for prompt in prompts])
        return timer.finish()
    def describe(self):
        return {"threads": self.threads, "bytecode": not sys.dont_write_bytecode}
    def close(self):
        pass

class Absent(Counting):
    def availability(self, setting):
        return "it isn't installed"

class Refusing(Counting):
    def load(self, setting):
        raise ModelError("no such layer", hint="take another")

class Broken(Counting):
    def load(self, setting):
        print("some log line")
        raise ValueError("a bug")

class Killed(Counting):
    def load(self, setting):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def make_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "fake_backends.py").write_text(BACKENDS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(kind: str, name: str) -> Job:
        setting = Setting(model=tmp_path, folder=tmp_path, threads=3)
        batches = [[[10]], [[20]], [[30]]]
        return Job(
            kind,  # type: ignore[arg-type]
            f"fake_backends:{name}",
            setting,
            started=0.0,
            new_tokens=3,
            warm_ups=1,
            cases=(batches,),
        )

    return make


def test_prepare_then_measure(make_job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # or each start would compile everything
    prepared = run_worker(make_job("prepare", "Counting"))
    assert prepared.failed is None and prepared.prepare_s is not None
    measured = run_worker(make_job("measure", "Counting")).measured
    assert measured is not None
    assert measured.details == {"threads": "3", "bytecode": True}
    # the warm-up isn't among the generations
    assert [times.tokens for times in measured.generations[0]] == [((21, 22, 23),), ((31, 32, 33),)]
    assert 0 < measured.load_s <= measured.first_token_s < 60
    assert measured.peak_memory_bytes > 1 << 20


@pytest.mark.parametrize(
    ("name", "kind", "unavailable", "failed"),
    [
        ("Absent", "prepare", "it isn't installed", None),
        ("Refusing", "measure", None, "no such layer\n\nhint: take another"),
        ("Broken", "measure", None, "ValueError: a bug"),
        ("Killed", "measure", None, "its process was ended by SIGKILL (out of memory?)"),
        (
            "Missing",
            "prepare",
            None,
            "AttributeError: module 'fake_backends' has no attribute 'Missing'",
        ),
    ],
)
def test_how_a_worker_ends_is_its_outcome(
    make_job, name: str, kind: str, unavailable: str | None, failed: str | None
) -> None:
    outcome = run_worker(make_job(kind, name))
    assert (outcome.unavailable, outcome.failed) == (unavailable, failed)
    assert outcome.measured is None


def test_job_comes_back_from_json(make_job) -> None:
    job = make_job("measure", "Counting")
    assert job_from_json(job_to_json(job)).setting == job.setting
