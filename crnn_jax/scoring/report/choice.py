"""Which mistakes a report shows: not all of thousands, and not ten times the same."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from crnn_jax.scoring.kinds import RIGHT, kind_of
from crnn_jax.scoring.metrics import edit_distance
from crnn_jax.scoring.row import Row

LIMIT = 300  # mistakes with a thumbnail


class Mistake(NamedTuple):
    """A sample that was not read right.

    Attributes:
        row: the sample.
        kind: one of `kinds.KINDS`.
        distance: edits / length of the longer of label and text; 1 where nothing was read.
    """

    row: Row
    kind: str
    distance: float

    @property
    def confidence(self) -> float:
        """0 for a picture that could not be read: nobody was sure of anything."""
        return self.row.confidence if self.row.text is not None else 0.0


def mistakes(rows: Iterable[Row]) -> list[Mistake]:
    """All samples that were not read right, in their order."""
    return [Mistake(row, kind, _distance(row)) for row in rows if (kind := kind_of(row)) != RIGHT]


def choose(found: Sequence[Mistake], limit: int = LIMIT) -> list[Mistake]:
    """The mistakes to show, the most confident first.

    A third are the most confident, a third the worst, by edits; the rest comes from every kind of
    error in every set in turn, so that a filter for one of them has something to show.

    Args:
        found: all mistakes.
        limit: how many are shown at most.

    Returns:
        At most `limit` of them, none twice.
    """
    surest = sorted(range(len(found)), key=lambda i: -found[i].confidence)
    # Of equally wrong ones the longer first; what could not be read has no error to look at.
    worst = sorted(
        range(len(found)),
        key=lambda i: (found[i].row.text is None, -found[i].distance, -len(found[i].row.label)),
    )
    chosen = dict.fromkeys([*surest[: limit // 3], *worst[: limit // 3]])
    strata: dict[tuple[str, str], list[int]] = {}
    for i in surest:
        if i not in chosen:
            strata.setdefault((found[i].row.set, found[i].kind), []).append(i)
    depth = 0
    while len(chosen) < limit and any(depth < len(stratum) for stratum in strata.values()):
        turn = [stratum[depth] for stratum in strata.values() if depth < len(stratum)]
        chosen |= dict.fromkeys(turn[: limit - len(chosen)])
        depth += 1
    return [found[i] for i in surest if i in chosen]


def _distance(row: Row) -> float:
    if row.text is None:
        return 1.0
    return edit_distance(row.label, row.text) / max(len(row.label), len(row.text), 1)
