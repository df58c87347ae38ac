"""The report's plots, as SVG: colours and type come from the page's style, light or dark."""

import html
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from crnn_jax.scoring.calibration import reliability, threshold_curve
from crnn_jax.scoring.intervals import wilson
from crnn_jax.scoring.metrics import Sums

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 14, 50  # room around the axes
CURVE_POINTS = 150


def reliability_plot(confidence: np.ndarray, right: np.ndarray) -> str:
    """Share right against confidence, in bins, with how many samples each bin holds."""
    parts = [*_frame("confidence, %", "read right"), *_numbers_below()]
    parts.append(_line(0, 0, 1, 1, "ideal"))
    bins = reliability(confidence, right)
    most = max((b.samples for b in bins), default=1)
    for b in bins:
        # Most readings are sure: by the square root of their number, the others stay visible.
        tall = 0.22 * math.sqrt(b.samples / most)
        told = f"confidence {b.low:.1f} to {b.high:.1f}: {b.right} of {b.samples} right"
        parts.append(_bar(b.low, b.high, tall, "count", told))
    for b in bins:
        share = b.right / b.samples
        low, high = wilson(b.right, b.samples)
        told = (
            f"{100 * share:.1f} % right at {100 * b.confidence:.1f} % confidence, n = {b.samples}"
        )
        parts.append(_line(b.confidence, low, b.confidence, high, "whisker"))
        parts.append(_dot(b.confidence, share, told))
    return _svg(parts, "Share of readings that are right, by confidence")


def coverage_plot(confidence: np.ndarray, right: np.ndarray) -> str:
    """Accuracy of the surest readings against their share of all."""
    parts = [
        *_frame("share of samples kept, surest first, %", "right among them"),
        *_numbers_below(),
    ]
    kept, share = threshold_curve(confidence, right)
    if len(kept):
        places = np.unique(np.linspace(0, len(kept) - 1, CURVE_POINTS).astype(int))
        points = " ".join(f"{_x(kept[i]):.1f},{_y(share[i]):.1f}" for i in places)
        parts.append(f'<polyline class="curve" points="{points}"/>')
        parts.append(_dot(float(kept[-1]), float(share[-1]), f"all: {100 * share[-1]:.1f} % right"))
    return _svg(parts, "Accuracy of the surest readings")


def groups_plot(groups: Mapping[str, Sums], what: str) -> str:
    """Exact accuracy of each group, with its interval and its number of samples."""
    parts = list(_frame(what, "read right"))
    step = 1 / max(len(groups), 1)
    for i, (name, sums) in enumerate(groups.items()):
        centre = (i + 0.5) * step
        share = sums.exact / sums.count
        low, high = wilson(sums.exact, sums.count)
        told = f"{what} {name}: {sums.exact} of {sums.count} right, {100 * share:.1f} %"
        half = min(0.36 * step, 0.06)
        parts.append(_bar(centre - half, centre + half, share, "share", told))
        parts.append(_line(centre, low, centre, high, "whisker"))
        narrow = " small" if len(groups) > 10 else ""
        x = _x(centre)
        label = name.replace(" or more", "+").replace("over ", ">").replace("under ", "<")
        for y, text, style in ((16, label, "tick"), (29, _short(sums.count), "faint tick")):
            shown = html.escape(text)
            at = f'x="{x:.1f}" y="{HEIGHT - BOTTOM + y}"'
            parts.append(f'<text class="{style}{narrow}" {at} text-anchor="middle">{shown}</text>')
    return _svg(parts, f"Exact accuracy by {what}")


def _frame(below: str, beside: str) -> Iterator[str]:
    for k in range(0, 101, 20):
        y = _y(k / 100)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{k}</text>'
    below, beside = html.escape(below), html.escape(beside)
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text class="axis" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{below}</text>'
    y = (TOP + HEIGHT - BOTTOM) / 2
    turned = f'transform="rotate(-90 11 {y})"'
    yield f'<text class="axis" x="11" y="{y}" text-anchor="middle" {turned}>{beside}, %</text>'


def _numbers_below() -> Iterator[str]:
    for k in range(0, 101, 20):
        at = f'x="{_x(k / 100):.1f}" y="{HEIGHT - BOTTOM + 16}"'
        yield f'<text class="tick" {at} text-anchor="middle">{k}</text>'


def _svg(parts: Sequence[str], title: str) -> str:
    inside = "".join(parts)
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f'<svg class="plot" {box} role="img" aria-label="{html.escape(title)}">{inside}</svg>'


def _x(share: float) -> float:
    return LEFT + float(share) * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - float(share) * (HEIGHT - BOTTOM - TOP)


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    ends = f'x1="{_x(x1):.1f}" y1="{_y(y1):.1f}" x2="{_x(x2):.1f}" y2="{_y(y2):.1f}"'
    return f'<line class="{style}" {ends}/>'


def _bar(x0: float, x1: float, tall: float, style: str, told: str) -> str:
    size = f'width="{_x(x1) - _x(x0):.1f}" height="{_y(0) - _y(tall):.1f}"'
    place = f'x="{_x(x0):.1f}" y="{_y(tall):.1f}"'
    return f'<rect class="{style}" {place} {size}><title>{html.escape(told)}</title></rect>'


def _dot(x: float, y: float, told: str) -> str:
    title = f"<title>{html.escape(told)}</title>"
    return f'<circle class="dot" cx="{_x(x):.1f}" cy="{_y(y):.1f}" r="4.5">{title}</circle>'


def _short(count: int) -> str:
    if count < 1000:
        return str(count)
    return f"{count / 1000:.1f}k" if count < 10_000 else f"{count // 1000}k"
