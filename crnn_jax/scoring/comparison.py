"""Two models on the same samples: who is right where.

comparison = compare(result_a, result_b)
comparison.combined['accuracy']  # Pairs(both=70, only_a=4, only_b=9, none=17)
"""

import collections
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from crnn_jax.core.errors import UserError
from crnn_jax.scoring.metrics import SHARES, Sums
from crnn_jax.scoring.paired import Pairs, mcnemar, newcombe, p_text
from crnn_jax.scoring.result import COMBINED, EvaluationResult
from crnn_jax.scoring.row import Row
from crnn_jax.scoring.tables import aligned


@dataclasses.dataclass
class Comparison:
    """Who is right where.

    Attributes:
        sets: set -> metric of `metrics.SHARES` -> `Pairs`; 'combined' last where there are several.
        other_labels: samples whose labels the two models' characters write differently (case).
    """

    sets: dict[str, dict[str, Pairs]]
    other_labels: int = 0

    @property
    def combined(self) -> dict[str, Pairs]:
        """Metric -> `Pairs` of all sets together."""
        return list(self.sets.values())[-1]

    def to_json(self) -> list[dict[str, Any]]:
        """A record a set, metric by metric."""
        return [
            {"set": name} | {metric: pairs.to_json() for metric, pairs in metrics.items()}
            for name, metrics in self.sets.items()
        ]

    def cells(self) -> Iterator[list[str]]:
        """A table: headings first, then a line a set and metric, shares in percent."""
        yield [
            *("set", "compared", "both right", "only A", "only B", "none"),
            *("B - A %", "95 % interval", "McNemar p"),
        ]
        for name, metrics in self.sets.items():
            for metric, pairs in metrics.items():
                low, high = newcombe(pairs)
                yield [
                    *(name, SHARES[metric][-1], *map(str, pairs)),
                    f"{100 * pairs.difference:+.2f}",
                    f"{100 * low:+.1f} to {100 * high:+.1f}",
                    p_text(mcnemar(pairs.only_a, pairs.only_b)),
                ]

    def table(self) -> str:
        """The table for people."""
        return "\n".join([*aligned(list(self.cells())), *self.notes()])

    def notes(self) -> Iterator[str]:
        """What has to be known to read the table."""
        if self.other_labels:
            yield (
                f"{self.other_labels} labels differ between the two (one model folds case): "
                "compare ignoring case"
            )


def compare(a: EvaluationResult, b: EvaluationResult) -> Comparison:
    """Pairs the samples of two results by set, number and path.

    Raises:
        UserError: they do not hold the same samples, or labels differ by more than case.
    """
    rows_a, rows_b = _keyed(a.rows), _keyed(b.rows)
    for own, other, name in ((rows_a, rows_b, "A"), (rows_b, rows_a, "B")):
        alone = [key for key in own if key not in other]
        if alone:
            raise UserError(
                f"not the same samples: {len(alone)} of {len(own)} are in {name} alone, "
                f"first {alone[0][2]} of {alone[0][0]}"
            )
    counts: dict[str, dict[str, collections.Counter[tuple[bool, bool]]]] = {}
    others = 0
    for key, row_a in rows_a.items():
        row_b = rows_b[key]
        if row_a.label.lower() != row_b.label.lower():
            raise UserError(
                f"{row_a.path}: its label is {row_a.label!r} in A and {row_b.label!r} in B"
            )
        others += row_a.label != row_b.label
        own_set = counts.setdefault(row_a.set, {name: collections.Counter() for name in SHARES})
        right_a, right_b = rights(row_a), rights(row_b)
        for metric in right_a:
            own_set[metric][right_a[metric], right_b[metric]] += 1
    if len(counts) != 1:
        everything: dict[str, collections.Counter[tuple[bool, bool]]] = {}
        for metric in SHARES:
            parts = (metrics[metric] for metrics in counts.values())
            everything[metric] = sum(parts, collections.Counter())
        counts[COMBINED] = everything
    sets = {
        name: {metric: _pairs(count) for metric, count in metrics.items()}
        for name, metrics in counts.items()
    }
    return Comparison(sets, others)


def rights(row: Row) -> dict[str, bool]:
    """Metric of `metrics.SHARES` that counts the sample -> whether the reading is right by it."""
    sums = Sums()
    sums.add(row.label, row.text)
    return {
        name: bool(getattr(sums, a)) for name, (a, of, _) in SHARES.items() if getattr(sums, of)
    }


def _pairs(count: collections.Counter[tuple[bool, bool]]) -> Pairs:
    keys = ((True, True), (True, False), (False, True), (False, False))
    return Pairs(*(count[key] for key in keys))


def _keyed(rows: Iterable[Row]) -> dict[tuple[str, int, str, int], Row]:
    """(set, id, path, how often before) -> row: a file may have been named twice."""
    seen: collections.Counter[tuple[str, int, str]] = collections.Counter()
    keyed = {}
    for row in rows:
        key = (row.set, row.id, row.path)
        keyed[*key, seen[key]] = row
        seen[key] += 1
    return keyed
