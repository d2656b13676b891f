import dataclasses
import json
from pathlib import Path

import pytest

from ingot.bench.prompts import Case
from ingot.bench.report import Prediction, Report, Spread, read_report, spread, write_report
from ingot.errors import IngotError


def test_spread_is_the_median_and_quartiles() -> None:
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]).iqr == 2.0
    assert spread([1.0]) == Spread(1.0, 1.0, 1.0, 1)


def test_report_comes_back_from_json(report: Report, tmp_path: Path) -> None:
    file = tmp_path / "folder" / "report.json"
    write_report(report, file)
    assert read_report(file) == report
    predicted = dataclasses.replace(report, predictions=(Prediction(Case(128, 4), 0.1, 0.01),))
    write_report(predicted, file)
    assert read_report(file) == predicted
    assert json.loads(file.read_text())["schema_version"] == 1


def test_ratio_to_eager(report: Report) -> None:
    case = Case(128, 4)
    assert report.ratio_to_eager("fast", case, "decode_tokens_per_s") == pytest.approx(2.0)
    assert report.ratio_to_eager("eager", case, "decode_tokens_per_s") == 1.0
    assert report.ratio_to_eager("onnxruntime", case, "decode_tokens_per_s") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "schema 99; this version reads 1"),
        ({"surprise": 1}, "surprise"),
        ({"machine": {"cpu": "A CPU"}}, "physical_cores"),
        ({"settings": None}, "settings"),
    ],
)
def test_wrong_report_is_refused(
    report: Report, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    file = tmp_path / "report.json"
    write_report(report, file)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(IngotError, match=message):
        read_report(file)


def test_no_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="isn't a benchmark report"):
        read_report(tmp_path / "missing.json")
