"""A profile to a roofline plot: SVG that takes its colours from the page around it.

Both axes are logarithmic: operations for each byte, and operations a second. A kernel is a disc as
large as its share of the step; a line leads from it up to what the machine's limits would allow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from ingot.bench.limits.record import Figure
from ingot.bench.profile.report import Load, Profile, Row

WIDTH, HEIGHT = 960.0, 520.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 24.0, 20.0, 52.0
LEAST_SHARE = 0.0005  # of the step: smaller discs would only be in the way
LEAST_RATE = 3e-5  # of the peak: what barely computes would push all else together
NUM_LABELS = 8
LABEL_HEIGHT, LABEL_CHARACTER = 15.0, 6.6  # pixels at the page's label size


@dataclass(frozen=True, slots=True)
class Axis:
    """Powers of ten, spread over pixels."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        position = (math.log10(value) - math.log10(self.low)) / math.log10(self.high / self.low)
        return self.start + position * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        return [10.0**power for power in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Box:
    x: float
    y: float
    width: float
    height: float

    def overlaps(self, other: Box) -> bool:
        apart_x = self.x + self.width <= other.x or other.x + other.width <= self.x
        apart_y = self.y + self.height <= other.y or other.y + other.height <= self.y
        return not (apart_x or apart_y)


def kind_class(kind: str) -> str:
    """The style of a kind's discs and bars."""
    return f"kind-{kind.replace('_', '-')}"


def draw_roofline(profile: Profile) -> str:
    """The plot as one `<svg>` element; empty if no kernel computes anything."""
    loads = [(row, row.load) for row in profile.rows if row.load]
    least = LEAST_RATE * max(
        (figure.best for figure in profile.limits.figures if figure.unit == "op/s"), default=0.0
    )
    found = [
        (row, load)
        for row, load in loads
        if load.operations
        and load.bytes
        and row.share >= LEAST_SHARE
        and load.operations / row.time_s >= least
    ]
    if not found:
        return ""
    bandwidths, peaks = roofs(profile, [load for _, load in found])
    x, y = choose_axes(found, bandwidths, peaks)
    parts = [
        f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" aria-label="Roofline plot">',
        *draw_grid(x, y),
        *draw_roofs(x, y, bandwidths, peaks),
        *draw_kernels(x, y, found, roof_labels(x, y, bandwidths, peaks)),
        "</svg>",
    ]
    return "\n".join(parts)


def roofs(profile: Profile, loads: Sequence[Load]) -> tuple[list[Figure], list[Figure]]:
    """The bandwidths and peaks that some kernel is measured against."""
    bandwidths = {load.bandwidth for load in loads} | {"memory read"}
    peaks = {load.peak for load in loads}
    figures = profile.limits.figures
    return (
        [figure for figure in figures if figure.name in bandwidths],
        [figure for figure in figures if figure.name in peaks],
    )


def intensity(load: Load) -> float:
    return load.operations / load.bytes


def choose_axes(
    found: Sequence[tuple[Row, Load]], bandwidths: Sequence[Figure], peaks: Sequence[Figure]
) -> tuple[Axis, Axis]:
    xs = [intensity(load) for _, load in found]
    ys = [load.operations / row.time_s for row, load in found]
    highest = max(peak.best for peak in peaks)
    ridge = highest / min(bandwidth.best for bandwidth in bandwidths)
    return (
        Axis(_floor(min(xs)), 3 * max(*xs, ridge), LEFT, WIDTH - RIGHT),
        Axis(_floor(min(ys)), 3 * highest, HEIGHT - BOTTOM, TOP),
    )


def draw_grid(x: Axis, y: Axis) -> list[str]:
    parts = ['<g class="grid">']
    for tick in x.ticks:
        at = x.at(tick)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        label = f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
        parts.append(f"{label}{tick:g}</text>")
    for tick in y.ticks:
        at = y.at(tick)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        label = f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">'
        parts.append(f"{label}{tick / 1e9:g}</text>")
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">'
        "operations for each byte</text>"
    )
    turned = f"rotate(-90 16 {HEIGHT / 2})"
    parts.append(
        f'<text class="axis" transform="{turned}" x="16" y="{HEIGHT / 2}" text-anchor="middle">'
        "Gop/s</text></g>"
    )
    return parts


def draw_roofs(
    x: Axis, y: Axis, bandwidths: Sequence[Figure], peaks: Sequence[Figure]
) -> list[str]:
    highest = max(peak.best for peak in peaks)
    parts = ['<g class="roofs">']
    for bandwidth in bandwidths:
        rate = bandwidth.best
        low = max(x.low, y.low / rate)
        high = min(x.high, highest / rate)
        x1, x2 = x.at(low), x.at(high)
        y1, y2 = y.at(low * rate), y.at(high * rate)
        parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
        angle = math.degrees(math.atan2(y2 - y1, x2 - x1))
        parts.append(
            f'<text transform="translate({x1 + 14:.1f} {y1 - 6:.1f}) rotate({angle:.1f})" '
            f'dx="10" dy="-3">{bandwidth.name}, {rate / 1e9:.3g} GB/s</text>'
        )
    start = max(bandwidths, key=lambda bandwidth: bandwidth.best).best
    for peak in peaks:
        at, x1 = y.at(peak.best), x.at(max(x.low, peak.best / start))
        parts.append(f'<line x1="{x1:.1f}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(
            f'<text x="{WIDTH - RIGHT - 6}" y="{at - 6:.1f}" text-anchor="end">'
            f"{peak.name.partition(' ')[0]} peak, {peak.best / 1e9:,.3g} Gop/s</text>"
        )
    return [*parts, "</g>"]


def roof_labels(
    x: Axis, y: Axis, bandwidths: Sequence[Figure], peaks: Sequence[Figure]
) -> list[Box]:
    """The places that the roofs' names take: at the right end of a peak, along a slope's start."""
    width = LABEL_CHARACTER * 24
    boxes = [
        Box(WIDTH - RIGHT - width, y.at(peak.best) - 18, width, LABEL_HEIGHT) for peak in peaks
    ]
    for bandwidth in bandwidths:
        low = max(x.low, y.low / bandwidth.best)
        x1, y1 = x.at(low), y.at(low * bandwidth.best)
        rise = (y.at(10 * low * bandwidth.best) - y1) / (x.at(10 * low) - x1)
        boxes += [Box(x1 + along, y1 + rise * along - 26, 20, 26) for along in range(10, 170, 20)]
    return boxes


def draw_kernels(
    x: Axis, y: Axis, found: Sequence[tuple[Row, Load]], reserved: Sequence[Box]
) -> list[str]:
    """The discs, the smallest last so that none is hidden, then the names of the largest."""
    discs, labels, taken = [], [], []
    ordered = sorted(found, key=lambda pair: -pair[0].share)
    places = []
    for row, load in ordered:
        at_x, at_y = x.at(intensity(load)), y.at(load.operations / row.time_s)
        radius = 4 + 26 * math.sqrt(row.share)
        places.append((row, at_x, at_y, radius))
        taken.append(Box(at_x - radius, at_y - radius, 2 * radius, 2 * radius))
        limit = y.at(min(load.operations / load.limit_s, y.high))
        style = kind_class(row.kind)
        discs.append(
            f'<line class="gap {style}" x1="{at_x:.1f}" x2="{at_x:.1f}" '
            f'y1="{at_y:.1f}" y2="{limit:.1f}"/>'
            f'<circle class="{style}" cx="{at_x:.1f}" cy="{at_y:.1f}" r="{radius:.1f}">'
            f"<title>{escape(f'{row.name}: {row.why}')}</title></circle>"
        )
    for row, at_x, at_y, radius in places[:NUM_LABELS]:
        own = taken[places.index((row, at_x, at_y, radius))]
        others = [*(box for box in taken if box is not own), *reserved]
        label = place_label(row.name, at_x, at_y, radius, others)
        if label is not None:
            taken.append(label)
            labels.append(
                f'<text class="label" x="{label.x:.1f}" y="{label.y + 11:.1f}">'
                f"{escape(row.name)}</text>"
            )
    return ['<g class="kernels">', *discs, *labels, "</g>"]


def place_label(text: str, x: float, y: float, radius: float, taken: Sequence[Box]) -> Box | None:
    """The first free place beside, below or above a disc, inside the plot; none if none is."""
    width, middle = LABEL_CHARACTER * len(text), y - LABEL_HEIGHT / 2
    candidates = [
        place
        for reach in (radius + 5, 2 * radius + 8, 3 * radius + 12)
        for place in (
            (x + reach, middle),
            (x - reach - width, middle),
            (x - width / 2, y + reach),
            (x - width / 2, y - reach - LABEL_HEIGHT),
            (x + reach * 0.8, y + reach * 0.8),
            (x + reach * 0.8, y - reach * 0.8 - LABEL_HEIGHT),
            (x - reach * 0.8 - width, y + reach * 0.8),
            (x - reach * 0.8 - width, y - reach * 0.8 - LABEL_HEIGHT),
        )
    ]
    for left, top in candidates:
        box = Box(left, top, width, LABEL_HEIGHT)
        inside = LEFT < left and left + width < WIDTH - RIGHT and TOP < top < HEIGHT - BOTTOM - 15
        if inside and not any(box.overlaps(other) for other in taken):
            return box
    return None


def _floor(value: float) -> float:
    return float(10 ** math.floor(math.log10(value)))


def bars(rows: Sequence[Row], least: float, text: Callable[[Row], str]) -> list[dict[str, object]]:
    """The pieces of a bar over the step; what is below `least` of it is one piece at the end."""
    shown = [row for row in rows if row.share >= least]
    total = sum(row.share for row in rows)
    pieces: list[dict[str, object]] = [
        {"style": kind_class(row.kind), "width": row.share / total, "text": text(row)}
        for row in shown
    ]
    rest = 1 - sum(row.share for row in shown) / total
    if rest > 1e-9:
        pieces.append({"style": "kind-rest", "width": rest, "text": f"all others, {rest:.1%}"})
    return pieces
