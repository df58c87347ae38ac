"""Two models on the same samples: which is correct where, and whether that may be chance.

The samples are paired, so only those count that one model alone reads correctly: a difference
shows with far fewer samples than two intervals side by side would need.
"""

import collections
import dataclasses
import itertools
import math
import os
from typing import Any, NamedTuple

from crnn_jax.core.errors import UserError
from crnn_jax.scoring.evaluation import COMBINED, EvaluationResult, Row
from crnn_jax.scoring.metrics import SHARES, Sums, wilson


class Pairs(NamedTuple):
    """Samples by which model reads them correctly."""

    both: int
    only_a: int
    only_b: int
    none: int

    @property
    def difference(self) -> float:
        """B's accuracy - A's; 0 of no samples."""
        return (self.only_b - self.only_a) / max(sum(self), 1)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, shares of 1."""
        return self._asdict() | {
            "count": sum(self),
            "difference": self.difference,
            "difference_interval": list(newcombe(self)),
            "mcnemar_p": mcnemar(self.only_a, self.only_b),
        }


@dataclasses.dataclass
class Comparison:
    """Set -> metric -> `Pairs`; 'combined' last if there are several sets."""

    sets: dict[str, dict[str, Pairs]]
    other_labels: int = 0  # samples whose labels the two models' characters write differently

    def to_json(self) -> list[dict[str, Any]]:
        """A record a set, metric by metric."""
        return [
            {"set": name} | {metric: pairs.to_json() for metric, pairs in metrics.items()}
            for name, metrics in self.sets.items()
        ]


def compare(a: EvaluationResult, b: EvaluationResult) -> Comparison:
    """Pairs the samples of two results by set, number and path; a UserError if they differ.

    Where the names of the sets differ, as `data/a.txt` and `./data/a.txt` do, by the sets' order
    and the paths seen from them.
    """
    by_name = {row.set for row in a.rows} == {row.set for row in b.rows}
    rows_a, rows_b = _keyed(a.rows, by_name), _keyed(b.rows, by_name)
    for own, other, name in ((rows_a, rows_b, "A"), (rows_b, rows_a, "B")):
        alone = [row for key, row in own.items() if key not in other]
        if alone:
            raise UserError(
                f"not the same samples: {len(alone)} of {len(own)} are in {name} alone, "
                f"first {alone[0].path} of {alone[0].set}"
            )
    counts: collections.Counter[tuple[str, str, bool, bool]] = collections.Counter()
    for key, row_a in rows_a.items():
        row_b = rows_b[key]
        folded_a, folded_b = (r.label.lower().replace("i\u0307", "i") for r in (row_a, row_b))
        if folded_a != folded_b:  # as a charset that ignores case folds them
            raise UserError(
                f"{row_a.path}: its label is {row_a.label!r} in A and {row_b.label!r} in B"
            )
        right_b = _right_by_metric(row_b)
        for metric, right in _right_by_metric(row_a).items():
            counts[row_a.set, metric, right, right_b[metric]] += 1
    names = list(dict.fromkeys(row.set for row in a.rows))
    parts = {name: [name] for name in names} | ({COMBINED: names} if len(names) != 1 else {})
    outcomes = ((True, True), (True, False), (False, True), (False, False))

    def pairs(name: str, metric: str) -> Pairs:
        return Pairs(*(sum(counts[part, metric, *o] for part in parts[name]) for o in outcomes))

    sets = {name: {metric: pairs(name, metric) for metric in SHARES} for name in parts}
    return Comparison(sets, sum(row.label != rows_b[key].label for key, row in rows_a.items()))


def _right_by_metric(row: Row) -> dict[str, bool]:
    """Metric that counts the sample -> whether the reading is correct by it."""
    sums = Sums()
    sums.add(row.label, row.text)
    shares = {metric: sums.share(metric) for metric in SHARES}
    return {metric: bool(right) for metric, (right, count) in shares.items() if count}


def _keyed(rows: list[Row], by_name: bool) -> dict[tuple[str | int, int, str, int], Row]:
    """(set's name or place, id, path, how often before) -> row: a file may be named twice."""
    places = {name: i for i, name in enumerate(dict.fromkeys(row.set for row in rows))}
    keyed: dict[tuple[str | int, int, str, int], Row] = {}
    for row in rows:
        key: tuple[str | int, int, str] = row.set, row.id, row.path
        if not by_name:
            key = places[row.set], row.id, os.path.relpath(row.path or ".", row.set or ".")
        keys = ((*key, again) for again in itertools.count())
        keyed[next(key for key in keys if key not in keyed)] = row
    return keyed


def newcombe(pairs: Pairs) -> tuple[float, float]:
    """The 95 % interval of B's share - A's share; (-1, 1) of no samples.

    Method 10 of R. G. Newcombe, "... differences based on paired data", Statistics in Medicine 17,
    1998: Wilson's intervals of both shares, joined by their correlation.
    """
    both, only_a, only_b, none = pairs
    count = sum(pairs)
    if count == 0:
        return -1.0, 1.0
    right_a, right_b = both + only_a, both + only_b
    share_a, share_b = right_a / count, right_b / count
    low_a, high_a = wilson(right_a, count)
    low_b, high_b = wilson(right_b, count)
    spread = right_a * (count - right_a) * right_b * (count - right_b)
    together = float(both * none - only_a * only_b)
    if together > 0:  # corrected towards no correlation, the careful side
        together = max(together - count / 2, 0.0)
    correlation = together / math.sqrt(spread) if spread else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * correlation * a * b + b * b, 0.0))

    low = pairs.difference - reach(share_b - low_b, high_a - share_a)
    high = pairs.difference + reach(high_b - share_b, share_a - low_a)
    return max(low, -1.0), min(high, 1.0)


def mcnemar(only_a: int, only_b: int) -> float:
    """McNemar's exact two-sided test: the chance of so uneven a split between equal models."""
    from scipy.stats import binomtest  # a second to import

    count = only_a + only_b
    return float(binomtest(only_a, count).pvalue) if count else 1.0
