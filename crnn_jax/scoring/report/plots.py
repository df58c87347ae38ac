"""The report's plots and its heat map of confusions, as SVG: colours and type are the page's.

With thousands of characters a matrix of all of them would be empty but for a few dots. The map
shows those of the most frequent substitutions; the others stand together in a row and a column of
their own, so that its cells add up to all edits.
"""

import collections
import html
import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from crnn_jax.scoring.calibration import reliability, threshold_curve
from crnn_jax.scoring.confusions import Pair, most_confused
from crnn_jax.scoring.metrics import Sums, wilson

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 14, 50  # room around the axes
CURVE_POINTS = 150
SHOWN = 24  # characters of the map
LISTED = 15  # edits of each list
CELL, HEAD = 22, 52  # pixels of a cell of the map, and of its headings


def reliability_plot(confidence: np.ndarray, right: np.ndarray) -> str:
    """Share right against confidence, in bins, with how many samples each bin holds."""
    parts = [_axes("confidence, %", "read right", numbers=True), _line(0, 0, 1, 1, "ideal")]
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
        told = f"{100 * share:.1f} % right at {100 * b.confidence:.1f} % confidence"
        parts.append(_line(b.confidence, low, b.confidence, high, "whisker"))
        parts.append(_dot(b.confidence, share, f"{told}, n = {b.samples}"))
    return _svg(parts, "Share of readings that are right, by confidence")


def coverage_plot(confidence: np.ndarray, right: np.ndarray) -> str:
    """Accuracy of the surest readings against their share of all."""
    parts = [_axes("share of samples kept, surest first, %", "right among them", numbers=True)]
    kept, share = threshold_curve(confidence, right)
    if len(kept):
        places = np.unique(np.linspace(0, len(kept) - 1, CURVE_POINTS).astype(int))
        points = " ".join(f"{_x(kept[i]):.1f},{_y(share[i]):.1f}" for i in places)
        parts.append(f'<polyline class="curve" points="{points}"/>')
        parts.append(_dot(kept[-1], share[-1], f"all: {100 * share[-1]:.1f} % right"))
    return _svg(parts, "Accuracy of the surest readings")


def groups_plot(groups: Mapping[str, Sums], what: str) -> str:
    """Exact accuracy of each group, with its interval and its number of samples."""
    parts = [_axes(what, "read right")]
    step = 1 / max(len(groups), 1)
    narrow = " small" if len(groups) > 10 else ""
    for i, (name, sums) in enumerate(groups.items()):
        centre, half = (i + 0.5) * step, min(0.36 * step, 0.06)
        share = sums.exact / sums.count
        told = f"{what} {name}: {sums.exact} of {sums.count} right, {100 * share:.1f} %"
        parts.append(_bar(centre - half, centre + half, share, "share", told))
        low, high = wilson(sums.exact, sums.count)
        parts.append(_line(centre, low, centre, high, "whisker"))
        label = name.replace(" or more", "+").replace("over ", ">").replace("under ", "<")
        parts.append(_text(_x(centre), _y(0) + 16, label, f"tick{narrow}"))
        parts.append(_text(_x(centre), _y(0) + 29, _short(sums.count), f"faint tick{narrow}"))
    return _svg(parts, f"Exact accuracy by {what}")


def visible(character: str) -> str:
    """A character as what can be seen of it alone."""
    category = unicodedata.category(character)
    if character == " ":
        return "␣"
    if category[0] in "CZ":
        return f"U+{ord(character):04X}"
    # A mark would sit on what stands before it.
    return f"◌{character}" if category[0] == "M" else character


def heat_map(counts: collections.Counter[Pair]) -> str:
    """The map as SVG: rows what stands there, columns what was read."""
    known = most_confused(counts, SHOWN)
    place = {character: i for i, character in enumerate(known)} | {"": len(known) + 1}
    cells: collections.Counter[tuple[int, int]] = collections.Counter()
    for (left, right), count in counts.items():
        cells[place.get(left, len(known)), place.get(right, len(known))] += count
    names = [*map(visible, known), "others"]
    rows, columns = [*names, "nothing"], [*names, "missed"]
    end = HEAD + len(rows) * CELL
    parts = []
    for i, (row, column) in enumerate(zip(rows, columns, strict=True)):
        at, edge = HEAD + (i + 0.5) * CELL, HEAD - 6
        style = "tick" if i < len(known) else "faint tick"
        parts.append(_text(edge, at + 4, row, style, "end"))
        turned = f' transform="rotate(-60 {at} {edge})"' if len(column) > 2 else ""
        parts.append(_text(at, edge, column, style, "start" if turned else "middle", turned))
        parts.append(f'<path class="grid" d="M{HEAD} {at}H{end}M{at} {HEAD}V{end}"/>')
    # What stands for thousands of pairs would make all others pale.
    inner = [count for pair, count in cells.items() if max(pair) < len(known)]
    most = max(inner or cells.values(), default=1)
    for (i, j), count in sorted(cells.items()):
        x, y = HEAD + j * CELL + 1, HEAD + i * CELL + 1
        # Frequencies of confusions fall off steeply: shades follow their logarithm.
        shade = 0.15 + 0.85 * min(math.log1p(count) / math.log1p(most), 1)
        told = html.escape(f"{rows[i]} read as {columns[j]}: {count}")
        parts.append(
            f'<rect class="heat" x="{x}" y="{y}" width="{CELL - 2}" height="{CELL - 2}" rx="3" '
            f'fill-opacity="{shade:.2f}"><title>{told}</title></rect>'
        )
        number = str(count) if count < 1000 else f"{count // 1000}k"
        tone = "number on" if shade > 0.6 else "number"
        parts.append(_text(x + CELL / 2 - 1, y + CELL / 2 + 2.5, number, tone))
    side = end + 14
    box = f'viewBox="0 0 {side} {side}" width="{side}" height="{side}"'
    return f'<svg class="map" {box} role="img" aria-label="Confusions">{"".join(parts)}</svg>'


def edit_lists(counts: collections.Counter[Pair]) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """(heading, [(edit as HTML, count)]), the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    for heading, wanted in (
        ("Substitutions", lambda pair: "" not in pair),
        ("Missed", lambda pair: not pair[1]),
        ("Extra", lambda pair: not pair[0]),
    ):
        found = [(pair, count) for pair, count in ordered if wanted(pair)]
        lines = []
        for pair, count in found[:LISTED]:
            texts = [f"<b>{html.escape(visible(character))}</b>" for character in pair if character]
            lines.append((" → ".join(texts), count))
        yield f"{heading} ({sum(count for _, count in found):,})", lines


def _axes(below: str, beside: str, *, numbers: bool = False) -> str:
    """The frame of a plot, 0 to 100 % upwards; with `numbers` to the right too."""
    parts = []
    for k in range(0, 101, 20):
        parts.append(_line(0, k / 100, 1, k / 100, "grid"))
        parts.append(_text(LEFT - 6, _y(k / 100) + 4, str(k), anchor="end"))
        if numbers:
            parts.append(_text(_x(k / 100), _y(0) + 16, str(k)))
    parts.append(_text(_x(0.5), HEIGHT - 6, below, "axis"))
    turned = f' transform="rotate(-90 11 {_y(0.5)})"'
    parts.append(_text(11, _y(0.5), f"{beside}, %", "axis", more=turned))
    return "".join(parts)


def _svg(parts: Sequence[str], title: str) -> str:
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}"'
    return f'<svg class="plot" {box}>{"".join(parts)}</svg>'


def _x(share: float) -> float:
    return LEFT + float(share) * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - float(share) * (HEIGHT - BOTTOM - TOP)


def _text(
    x: float, y: float, text: str, style: str = "tick", anchor: str = "middle", more: str = ""
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}'
    return f'<text class="{style}" {place}>{html.escape(text)}</text>'


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
