"""The schedule of training, and a few steps of it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ingot.models.demo_training.training import Budget, create_model, schedule, train


@pytest.mark.parametrize(
    ("progress", "factor", "length"),
    [
        (0.0, 1e-3, 256),
        (0.015, 0.5, 256),
        (0.35, 1.0, 256),
        (0.6, 0.4 / 0.65, 512),
        (1, 1e-3, 1024),
    ],
)
def test_schedule(progress: float, factor: float, length: int) -> None:
    assert schedule(progress) == (pytest.approx(factor), length)


def test_budget_counts_steps_or_seconds() -> None:
    assert Budget(100.0).progress(7, 25.0) == 0.25
    assert Budget(100.0, num_steps=14).progress(7, 25.0) == 0.5


def test_a_step_changes_the_draft_and_is_repeatable(tmp_path: Path) -> None:
    stream = torch.from_numpy(np.random.default_rng(0).integers(0, 2048, 40_000).astype(np.int16))

    def run() -> torch.Tensor:
        torch.manual_seed(0)
        model = create_model(is_draft=True)
        report = train(
            model,
            stream,
            Budget(0.0, num_steps=1),
            np.random.default_rng(1),
            tmp_path / "checkpoint.pt",
            use_compile=False,
        )
        assert (report["steps"], report["tokens"]) == (1, 8192)
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    torch.manual_seed(0)
    before = torch.cat([p.flatten() for p in create_model(is_draft=True).parameters()])
    first, second = run(), run()
    assert not torch.equal(first, before)
    assert torch.equal(first, second)
