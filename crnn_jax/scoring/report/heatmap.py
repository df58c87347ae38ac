"""Which characters are read as which: the most frequent edits as lists, and as a heat map.

With thousands of characters a matrix of all of them would be empty but for a few dots. The map
shows those of the most frequent substitutions; the others stand together in a row and a column of
their own, so that its cells add up to all edits.
"""

import collections
import html
import math
import unicodedata
from collections.abc import Iterator

from crnn_jax.scoring.confusions import Pair, most_confused

SHOWN = 24  # characters of the map
LISTED = 15  # edits of each list
CELL = 22  # pixels
HEAD = 52
OTHERS = "others"


def shown(character: str) -> str:
    """A character that can be seen, as HTML text."""
    category = unicodedata.category(character)
    if character == " ":
        return "␣"
    if category[0] in "CZ":
        return f"U+{ord(character):04X}"
    if category[0] == "M":  # it would sit on what stands before it
        return "◌" + html.escape(character)
    return html.escape(character)


def heat_map(counts: collections.Counter[Pair]) -> str:
    """The map as SVG: rows what stands there, columns what was read."""
    known = most_confused(counts, SHOWN)
    cells: collections.Counter[tuple[int, int]] = collections.Counter()
    place = {character: i for i, character in enumerate(known)} | {"": len(known) + 1}
    for (left, right), count in counts.items():
        cells[place.get(left, len(known)), place.get(right, len(known))] += count
    names = [shown(character) for character in known]
    rows, columns = [*names, OTHERS, "nothing"], [*names, OTHERS, "missed"]
    # What stands for thousands of pairs would make all others pale.
    inner = [count for pair, count in cells.items() if max(pair) < len(known)]
    most = max(inner or cells.values(), default=1)
    size = len(rows) * CELL
    parts = []
    for i, (row, column) in enumerate(zip(rows, columns, strict=True)):
        at = HEAD + (i + 0.5) * CELL
        style = "tick" if i < len(known) else "faint tick"
        parts.append(f'<text class="{style}" x="{HEAD - 6}" y="{at + 4}" text-anchor="end">')
        parts.append(f"{row}</text>")
        turn = f' transform="rotate(-60 {at} {HEAD - 6})"' if len(column) > 2 else ""
        anchor = "start" if turn else "middle"
        parts.append(f'<text class="{style}" x="{at}" y="{HEAD - 6}" text-anchor="{anchor}"{turn}>')
        parts.append(f"{column}</text>")
        for x1, y1, x2, y2 in ((HEAD, at, HEAD + size, at), (at, HEAD, at, HEAD + size)):
            parts.append(f'<line class="grid" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    for (i, j), count in sorted(cells.items()):
        x, y = HEAD + j * CELL + 1, HEAD + i * CELL + 1
        # Frequencies of confusions fall off steeply: shades follow their logarithm.
        shade = 0.15 + 0.85 * min(math.log1p(count) / math.log1p(most), 1)
        told = f"{rows[i]} read as {columns[j]}: {count}"
        parts.append(
            f'<rect class="heat" x="{x}" y="{y}" width="{CELL - 2}" height="{CELL - 2}" rx="3" '
            f'fill-opacity="{shade:.2f}"><title>{told}</title></rect>'
        )
        number = str(count) if count < 1000 else f"{count // 1000}k"
        tone = " on" if shade > 0.6 else ""
        where = f'x="{x + CELL / 2 - 1}" y="{y + CELL / 2 + 2.5}"'
        parts.append(f'<text class="number{tone}" {where} text-anchor="middle">{number}</text>')
    side = HEAD + size + 14
    box = f'viewBox="0 0 {side} {side}" width="{side}" height="{side}"'
    inside = "".join(parts)
    return f'<svg class="map" {box} role="img" aria-label="Confusions">{inside}</svg>'


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
            texts = [f"<b>{shown(character)}</b>" for character in pair if character]
            lines.append((" → ".join(texts), count))
        yield f"{heading} ({sum(count for _, count in found):,})", lines
