"""The result of an evaluation: what was read, sample by sample, and the sums over it.

One object feeds everything that is shown: `output`'s tables and files, the HTML report, a training
run's metrics. Results of parts (files, hosts) add up.

    result = evaluate_batches(predict, batches, source, charset)
    result.metrics()['accuracy']
"""

import bisect
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from crnn_jax.scoring import calibration
from crnn_jax.scoring.metrics import SHARES, Sums, wilson

MEANS = (*SHARES, "cer", "ned")  # what is averaged over sets
COMBINED = "combined"
# Where the next group begins. Words have a group for each length, text lines share.
LENGTHS = (*range(1, 12), 16, 21, 31, 51, 101)
LENGTH_GROUPS = (*map(str, range(11)), "11-15", "16-20", "21-30", "31-50", "51-100", "over 100")
ASPECTS = (1, 2, 3, 4, 6, 8, 12, 20, math.inf)
ASPECT_GROUPS = (
    *("under 1", "1-2", "2-3", "3-4", "4-6", "6-8", "8-12", "12-20"),
    *("20 or more", "unknown"),
)


class Row(NamedTuple):
    """One sample.

    Attributes:
        id: its number in the source.
        path: what a person finds it by.
        set: name of the file or source it belongs to.
        label: what stands in the picture.
        text: what was read; None if the picture could not be read.
        confidence: p(text | picture), NaN if the picture could not be read.
        reason: why it could not be read; None where it could.
    """

    id: int
    path: str
    set: str
    label: str
    text: str | None
    confidence: float
    reason: str | None = None

    @property
    def right(self) -> bool:
        """The text is the label, exactly."""
        return self.text == self.label

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; confidence is null where there is none."""
        known = None if math.isnan(self.confidence) else self.confidence
        return self._asdict() | {"confidence": known, "right": self.right}


@dataclasses.dataclass
class EvaluationResult:
    """Rows and sums of one or several sets; `a + b` joins two results.

    Attributes:
        sets: name -> sums over that set.
        rows: the samples in the order they were read; hosts and sets one after the other.
        aspects: (set, id) -> width / height of the picture, where `note_aspects` told.
    """

    sets: dict[str, Sums] = dataclasses.field(default_factory=dict)
    rows: list[Row] = dataclasses.field(default_factory=list)
    aspects: dict[tuple[str, int], float] = dataclasses.field(default_factory=dict)

    def add(self, row: Row, loss: float = math.nan) -> None:
        """Counts one sample; `loss` is its CTC loss in nats, NaN where there is none."""
        sums = self.sets.setdefault(row.set, Sums())
        sums.add(row.label, row.text, loss)
        if row.reason is not None:
            sums.reasons[row.reason] += 1
        self.rows.append(row)

    def note_reasons(self, name: str, reasons: Mapping[str, int]) -> None:
        """Notes why samples of a set are of no use for training; their readings count all the same.

        Args:
            name: of the set.
            reasons: reason -> samples, `Plan.reasons.counts`. Pictures that could not be read
                are among them and are not counted twice.
        """
        noted = self.sets.setdefault(name, Sums()).reasons
        for reason, count in reasons.items():
            noted[reason] = max(noted[reason], count)

    def note_aspects(self, name: str, sizes: np.ndarray) -> None:
        """Notes how wide a set's pictures are.

        Args:
            name: of the set.
            sizes: int [n, 2], height and width of the samples 0, 1, ...; height 0: not known.
        """
        for i, (height, width) in enumerate(sizes.tolist()):
            if height > 0:
                self.aspects[name, i] = width / height

    def __add__(self, other: "EvaluationResult") -> "EvaluationResult":
        names = dict.fromkeys((*self.sets, *other.sets))
        sets = {n: self.sets.get(n, Sums()) + other.sets.get(n, Sums()) for n in names}
        return EvaluationResult(sets, self.rows + other.rows, self.aspects | other.aspects)

    def to_message(self) -> dict[str, Any]:
        """JSON values for other processes: all sums; of the rows those that were not read."""
        unread = [row for row in self.rows if row.reason is not None]
        return {"sets": {name: vars(sums) for name, sums in self.sets.items()}, "rows": unread}

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "EvaluationResult":
        """The opposite."""
        sets = {
            name: Sums(**{**sums, "reasons": Counter(sums["reasons"])})
            for name, sums in message["sets"].items()
        }
        return cls(sets, [Row(*row) for row in message["rows"]])

    @property
    def combined(self) -> Sums:
        """Sums over all sets: each sample counts once, whatever set it is in."""
        return sum(self.sets.values(), Sums())

    def with_combined(self) -> list[tuple[str, Sums]]:
        """The sets and, unless there is exactly one, 'combined'."""
        several = [(COMBINED, self.combined)] if len(self.sets) != 1 else []
        return [*self.sets.items(), *several]

    def metrics(self) -> dict[str, float]:
        """Flat metrics of all sets together, as `Sums.metrics`, for logs."""
        return self.combined.metrics()

    def set_mean(self) -> dict[str, float]:
        """Shares of 1 averaged over the sets, each of the same weight however many samples it has.

        Benchmarks are told so as often as by sample; the two differ where sets differ in size. A
        share that a set does not have (no characters, no losses) is averaged over the others.
        """
        every = [sums.metrics() for sums in self.sets.values()]
        found = {name: [m[name] for m in every if name in m] for name in MEANS}
        return {name: sum(values) / len(values) for name, values in found.items() if values}

    def rows_of(self, name: str) -> list[Row]:
        """The samples of a set; of all sets for 'combined'."""
        every = name == COMBINED and COMBINED not in self.sets
        return [row for row in self.rows if every or row.set == name]

    def confidences(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(confidence float [n], right bool [n]) of a set's samples; of all sets for 'combined'.

        A picture that could not be read has confidence 0.
        """
        rows = self.rows_of(name)
        confidence = np.nan_to_num(np.array([row.confidence for row in rows], float))
        return confidence, np.array([row.right for row in rows], bool)

    def groups(self, name: str) -> dict[str, dict[str, Sums]]:
        """'by_length' and, where pictures' sizes are known, 'by_aspect' of a set or 'combined'."""
        rows = self.rows_of(name)
        found = {"by_length": by_length(rows)}
        if any((row.set, row.id) in self.aspects for row in rows):
            found["by_aspect"] = by_aspect(rows, self.aspects)
        return found

    def to_json(self) -> Iterator[dict[str, Any]]:
        """One record a set and, of several sets, one for all together.

        Each is `Sums.metrics` with the set's name under 'set', 95 % intervals as [low, high]
        under 'accuracy_interval' and so on, `calibration.summary` of the rows, the same by label
        length and by aspect ratio under 'by_length' and 'by_aspect', and the counts of samples by
        reason under 'reasons'. The record for all together has `set_mean` too.
        """
        for name, sums in self.with_combined():
            record: dict[str, Any] = {"set": name} | _with_intervals(sums)
            record |= calibration.summary(*self.confidences(name))
            for key, groups in self.groups(name).items():
                record[key] = {group: _with_intervals(s) for group, s in groups.items()}
            if len(self.sets) > 1 and name == COMBINED:
                record["set_mean"] = self.set_mean()
            yield record | {"reasons": dict(sums.reasons)}


def by_length(rows: Iterable[Row]) -> dict[str, Sums]:
    """Sums by label length, short ones first; groups without samples are left out."""
    return _grouped(rows, lambda row: len(row.label), LENGTHS, LENGTH_GROUPS)


def by_aspect(rows: Iterable[Row], aspects: Mapping[tuple[str, int], float]) -> dict[str, Sums]:
    """Sums by width / height of the picture, narrow ones first, those not known last."""

    def aspect(row: Row) -> float:
        return aspects.get((row.set, row.id), math.inf)

    return _grouped(rows, aspect, ASPECTS, ASPECT_GROUPS)


def _grouped(
    rows: Iterable[Row], value: Callable[[Row], float], edges: Sequence[float], names: Sequence[str]
) -> dict[str, Sums]:
    groups: dict[str, Sums] = {}
    for row in sorted(rows, key=value):
        name = names[bisect.bisect_right(edges, value(row))]
        groups.setdefault(name, Sums()).add(row.label, row.text)
    return groups


def _with_intervals(sums: Sums) -> dict[str, Any]:
    record = sums.metrics()
    for metric, (right, of, _) in SHARES.items():
        record[f"{metric}_interval"] = list(wilson(getattr(sums, right), getattr(sums, of)))
    return record
