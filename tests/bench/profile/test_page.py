"""The page stands alone and shows every row; the plot's marks are where the figures put them."""

import re
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ingot.bench.profile.page import render_page, write_page
from ingot.bench.profile.report import Profile
from ingot.bench.profile.roofline import Axis, Box, draw_roofline, place_label


def test_a_page_needs_nothing_else(profile: Profile, tmp_path: Path) -> None:
    write_page(profile, tmp_path / "deep" / "page.html")
    text = unescape((tmp_path / "deep" / "page.html").read_text("utf-8"))
    assert not re.findall(r"""(?:src|href)=|@import|url\(|https?://""", text)
    assert "prefers-color-scheme: dark" in text
    for row in profile.rows:
        assert row.name in text and row.why in text
    assert "99.2% of the step" in text
    assert "26 ms" in text


def test_names_are_text(profile: Profile) -> None:
    object.__setattr__(profile, "model", "<script>")
    assert "<script>" not in render_page(profile)


def test_a_disc_is_where_its_figures_are(profile: Profile) -> None:
    svg = ElementTree.fromstring(draw_roofline(profile))
    circles = list(svg.iter("circle"))
    # Ten operations in 100 us are no disc: they would push all others into a corner.
    assert len(circles) == 1
    assert float(circles[0].attrib["r"]) > 25
    gap = next(line for line in svg.iter("line") if "gap" in line.attrib.get("class", ""))
    assert float(gap.attrib["y2"]) < float(gap.attrib["y1"]), "the limit is above"


def test_a_step_without_kernels_has_no_plot(profile: Profile) -> None:
    rows = tuple(row for row in profile.rows if row.load is None)
    object.__setattr__(profile, "rows", rows)
    assert draw_roofline(profile) == ""
    assert "<svg" not in render_page(profile)


def test_an_axis_is_logarithmic() -> None:
    axis = Axis(0.1, 1000.0, 0.0, 400.0)
    assert [axis.at(tick) for tick in axis.ticks] == pytest.approx([0, 100, 200, 300, 400])


def test_a_label_keeps_off_what_is_taken() -> None:
    free = place_label("name", 400, 200, 10, [])
    assert free is not None and free.x > 410
    moved = place_label("name", 400, 200, 10, [free])
    assert moved is not None and not moved.overlaps(free)
    assert place_label("name", 400, 200, 10, [Box(0, 0, 2000, 2000)]) is None
