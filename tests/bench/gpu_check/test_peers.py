"""Eager decodes a shape that there are no weights of; on the CPU, where there is no GPU."""

import time
from pathlib import Path

from ingot.bench.checkpoint import Shape, make_config
from ingot.bench.gpu_check.peers import time_peer
from ingot.bench.gpu_check.plan import Plan, shape_folder
from tests.bench.conftest import TINY

PLAN = Plan({}, {}, context_tokens=16, decode_steps=4)


def test_eager_is_timed(tmp_path: Path) -> None:
    make_config(Shape("llama", TINY)).save_pretrained(shape_folder(tmp_path, "tiny"))
    started = time.monotonic()
    found = time_peer("eager", tmp_path, ["tiny"], (1, 3), PLAN, started, device="cpu")
    assert list(found["decode"]) == ["1", "3"]
    assert all(step["tokens_s"] > 0 and step["step_us"] > 0 for step in found["decode"].values())
    assert found["details"] == {"attention": "sdpa"}
