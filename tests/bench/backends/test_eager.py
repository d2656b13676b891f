from pathlib import Path

import pytest

from ingot.bench.backends.base import Setting
from ingot.bench.backends.eager import EagerBackend

PROMPTS = [list(range(1, 18)), list(range(40, 57))]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_tokens_are_those_of_generate(setting: Setting, batch_size: int) -> None:
    import torch

    backend = EagerBackend()
    assert backend.availability(setting) is None
    backend.load(setting)
    times = backend.generate(PROMPTS[:batch_size], 7)

    token_ids = torch.tensor(PROMPTS[:batch_size])
    expected = backend.model.generate(
        token_ids,
        attention_mask=torch.ones_like(token_ids),
        max_new_tokens=7,
        min_new_tokens=7,
        do_sample=False,
        pad_token_id=0,
    )
    assert [list(row) for row in times.tokens] == expected[:, 17:].tolist()
    assert len(times.step_times_s) == 6
    assert min(times.ttft_s, *times.step_times_s) > 0
    assert backend.describe() == {"attention": "sdpa"}
    backend.close()


def test_no_cuda_device_is_a_reason(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    reason = EagerBackend().availability(dataclasses.replace(setting, device="cuda"))
    assert reason == "torch sees no CUDA device"


def test_random_weights_need_only_sizes(setting: Setting, tmp_path: Path) -> None:
    import dataclasses
    import shutil

    shutil.copy(setting.model / "config.json", tmp_path)
    backend = EagerBackend()
    backend.load(dataclasses.replace(setting, model=tmp_path, random_weights=True))
    times = backend.generate(PROMPTS, 3)
    assert len(times.tokens) == 2 and len(times.step_times_s) == 2
    assert backend.describe() == {"attention": "sdpa"}
    backend.close()
