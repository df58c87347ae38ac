"""Readings by what is known of the sample: how long its label is, how wide its picture.

    for name, sums in by_length(rows).items(): ...   # '1', '2', ..., '11-15', ..., 'over 100'
    for name, sums in by_aspect(rows, aspects).items(): ...   # 'under 1', '1-2', ..., 'unknown'

Every sample is in exactly one group; groups without samples are left out.
"""

import bisect
import math
from collections.abc import Iterable, Mapping

from crnn_jax.scoring.metrics import Sums
from crnn_jax.scoring.row import Row

# Words have a group for each length, text lines, of which no two are of one length, share.
LENGTHS = (*range(11), 15, 20, 30, 50, 100)  # last length of each group
ASPECTS = (1, 2, 3, 4, 6, 8, 12, 20)  # upper end of each group, itself not in it
UNKNOWN = "unknown"


Aspects = Mapping[tuple[str, int], float]  # (set, id) -> width / height, where it is known


def length_group(length: int) -> str:
    """The name of the group of a label of so many characters."""
    place = bisect.bisect_left(LENGTHS, length)
    if place == len(LENGTHS):
        return f"over {LENGTHS[-1]}"
    first = LENGTHS[place - 1] + 1 if place else 0
    return str(first) if first == LENGTHS[place] else f"{first}-{LENGTHS[place]}"


def aspect_group(aspect: float | None) -> str:
    """The name of the group of a picture of this width / height."""
    if aspect is None:
        return UNKNOWN
    place = bisect.bisect_right(ASPECTS, aspect)
    if place == 0:
        return f"under {ASPECTS[0]}"
    last = place == len(ASPECTS)
    return f"{ASPECTS[-1]} or more" if last else f"{ASPECTS[place - 1]}-{ASPECTS[place]}"


def by_length(rows: Iterable[Row]) -> dict[str, Sums]:
    """Sums by label length, short ones first."""
    return _grouped((len(row.label), length_group(len(row.label)), row) for row in rows)


def by_aspect(rows: Iterable[Row], aspects: Aspects) -> dict[str, Sums]:
    """Sums by width / height of the picture, narrow ones first, those not known last."""
    known = ((aspects.get((row.set, row.id)), row) for row in rows)
    return _grouped(
        (math.inf if aspect is None else aspect, aspect_group(aspect), row) for aspect, row in known
    )


def _grouped(ordered: Iterable[tuple[float, str, Row]]) -> dict[str, Sums]:
    groups: dict[str, Sums] = {}
    for _, name, row in sorted(ordered, key=lambda item: item[0]):
        groups.setdefault(name, Sums()).add(row.label, row.text)
    return groups
