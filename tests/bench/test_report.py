import dataclasses
import json
from pathlib import Path

import pytest

from ingot.bench.prompts import Case
from ingot.bench.report import Prediction, Report, Spread, spread, write_report


def test_spread_is_the_median_and_quartiles() -> None:
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]).iqr == 2.0
    assert spread([1.0]) == Spread(1.0, 1.0, 1.0, 1)


def test_report_is_written_whole(report: Report, tmp_path: Path) -> None:
    predicted = dataclasses.replace(report, predictions=(Prediction(Case(128, 4), 0.1, 0.01),))
    file = tmp_path / "folder" / "report.json"
    write_report(predicted, file)
    content = json.loads(file.read_text())
    assert content == json.loads(json.dumps(dataclasses.asdict(predicted)))
    assert content["schema_version"] == 1
    assert content["predictions"][0]["case"] == {"prompt_length": 128, "batch_size": 4}


def test_ratio_to_eager(report: Report) -> None:
    case = Case(128, 4)
    assert report.ratio_to_eager("fast", case, "decode_tokens_per_s") == pytest.approx(2.0)
    assert report.ratio_to_eager("eager", case, "decode_tokens_per_s") == 1.0
    assert report.ratio_to_eager("onnxruntime", case, "decode_tokens_per_s") is None
