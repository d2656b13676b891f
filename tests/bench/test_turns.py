from pathlib import Path

from ingot.bench.backends.base import Setting
from ingot.bench.turns import run_turns
from ingot.bench.worker import Job, Outcome


def make_jobs(*names: str) -> dict[str, Job]:
    setting = Setting(model=Path("model"), folder=Path("folder"))
    return {name: Job("measure", name, setting, 0.0, cases=([[[1]]],)) for name in names}


def test_backends_take_turns_forth_and_back() -> None:
    ran: list[tuple[str, str]] = []

    def run(job: Job) -> Outcome:
        ran.append((job.kind, job.backend))
        if job.backend == "gone":
            return Outcome(unavailable="it isn't installed")
        return (
            Outcome(failed="it broke") if (job.kind, job.backend) == ("measure", "b") else Outcome()
        )

    lines: list[str] = []
    names = ("a", "gone", "b", "c")
    turns = (names, tuple(reversed(names)))
    prepared, measured = run_turns(make_jobs(*names), turns, lines.append, run)
    assert ran[:4] == [("prepare", name) for name in names]
    # `gone` has no turn, and `b` no second one
    assert [name for _, name in ran[4:]] == ["a", "b", "c", "c", "a"]
    assert prepared["gone"].unavailable == "it isn't installed"
    assert {name: len(outcomes) for name, outcomes in measured.items()} == {
        "a": 2,
        "gone": 0,
        "b": 1,
        "c": 2,
    }
    assert "gone: it isn't installed" in lines
    assert "b: it broke" in lines
