"""An artifact is proven and timed on an emulated GPU, and all of it is in the results."""

import json
import subprocess
import sys
from pathlib import Path

from tests.compile.conftest import write_checkpoint
from tests.emulated_gpu.emulator import build_driver, environment

ROOT = Path(__file__).resolve().parents[3]


def test_an_artifact_is_checked(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", hidden_size=128)
    (tmp_path / "cases.json").write_text(json.dumps({"archs": ["sm_90"], "cases": []}))
    done = subprocess.run(
        [sys.executable, "-m", "tests.emulated_gpu.check", checkpoint, tmp_path],
        env=environment(build_driver(tmp_path)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "out.json").read_text())
    assert results["artifact"]["ok"] and results["artifact"]["proof"]["status"] == "proven"
    speeds = [*results["artifact"]["speed"].values(), results["artifact"]["speed_without_graphs"]]
    assert all(number > 0 for speed in speeds for number in speed.values())
    assert results["limits"]["upload_gb_s"] > 0
