"""The result of an evaluation: what was read, sample by sample, and the sums over it.

One object feeds everything that is shown: the table for people, JSON, the rows as TSV, a
training run's metrics. Results of parts (files, hosts) add up.

    result = evaluate_batches(predict, batches, source, charset)
    print(result.table())
    result.metrics()['accuracy']
"""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from crnn_jax.scoring import calibration
from crnn_jax.scoring.groups import by_aspect, by_length
from crnn_jax.scoring.intervals import wilson
from crnn_jax.scoring.metrics import SHARES, Sums
from crnn_jax.scoring.row import COLUMNS, Row, to_cell
from crnn_jax.scoring.tables import HEADINGS, aligned, mean_cells, percent, sums_cells

MEANS = (*SHARES, "cer", "ned")  # what is averaged over sets
COMBINED = "combined"


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
        names = [*self.sets, *(name for name in other.sets if name not in self.sets)]
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

    def groups(self, name: str) -> dict[str, dict[str, Sums]]:
        """'by_length' and, where pictures' sizes are known, 'by_aspect' of a set or 'combined'."""
        rows = self.rows_of(name)
        found = {"by_length": by_length(rows)}
        if any((row.set, row.id) in self.aspects for row in rows):
            found["by_aspect"] = by_aspect(rows, self.aspects)
        return found

    def table(self) -> str:
        """The result for people: a line a set, shares in percent with their 95 % intervals."""
        notes = [*self.reason_notes(), *self._mean_note(), *self.confidence_notes()]
        return "\n".join([*aligned(list(self.cells(mean=False))), *notes])

    def cells(self, *, mean: bool) -> Iterator[list[str]]:
        """The same as cells, headings first; with `mean`, several sets' mean is the last line."""
        yield ["set", *HEADINGS]
        for name, sums in self.with_combined():
            yield [name, *sums_cells(sums)]
        if mean and len(self.sets) > 1:
            yield ["mean of the sets", *mean_cells(self.set_mean())]

    def reason_notes(self) -> Iterator[str]:
        """What training would leave out or nothing could read: counted all the same.

        What has no letter or digit is counted but by these.
        """
        for name, sums in self.sets.items():
            if none := sums.count - sums.alphanumeric_count:
                yield (
                    f"{name}: {none} of {sums.count}: no letter or digit in the label "
                    "(not in alphanumeric)"
                )
            for reason, count in sums.reasons.most_common():
                yield f"{name}: {count} of {sums.count}: {reason} (in the counts above)"

    def confidence_notes(self) -> Iterator[str]:
        """How far confidences can be relied on."""
        for name, _ in self.with_combined():
            told = calibration.summary(*self.confidences(name))
            if told:
                yield (
                    f"{name}: confidence is off by {100 * told['calibration_error']:.1f} % on the "
                    f"average; {100 * told['coverage_at_99']:.1f} % can be read with 99 % right"
                )

    def _mean_note(self) -> Iterator[str]:
        if len(self.sets) > 1:
            mean = self.set_mean()
            names = {metric: heading for metric, (_, _, heading) in SHARES.items()}
            names |= {"cer": "CER", "ned": "1-NED"}
            told = [f"{names[m]} {percent(v)}" for m, v in mean.items()]
            yield f"mean of the {len(self.sets)} sets, in %: {', '.join(told)}"

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

    def write_rows(self, stream: Any, *, as_json: bool) -> None:
        """Writes all samples to a text stream: JSON lines, or TSV with one line of headings."""
        if not as_json:
            stream.write("\t".join(COLUMNS) + "\n")
        for row in self.rows:
            record = row.to_json()
            if as_json:
                stream.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
            else:
                stream.write("\t".join(to_cell(value) for value in record.values()) + "\n")

    def with_combined(self) -> list[tuple[str, Sums]]:
        """The sets and, unless there is exactly one, 'combined'."""
        several = [(COMBINED, self.combined)] if len(self.sets) != 1 else []
        return [*self.sets.items(), *several]


def _with_intervals(sums: Sums) -> dict[str, Any]:
    record = sums.metrics()
    for metric, (right, of, _) in SHARES.items():
        record[f"{metric}_interval"] = list(wilson(getattr(sums, right), getattr(sums, of)))
    return record
