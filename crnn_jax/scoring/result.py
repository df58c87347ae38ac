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
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from crnn_jax.scoring import calibration
from crnn_jax.scoring.intervals import wilson
from crnn_jax.scoring.metrics import Sums

SHARES = {  # metric -> (attribute of Sums that counts it, heading of its column)
    "accuracy": ("exact", "exact"),
    "accuracy_ignore_case": ("ignore_case", "ignoring case"),
    "accuracy_alphanumeric": ("alphanumeric", "alphanumeric"),
}
COMBINED = "combined"


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

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; confidence is null where there is none."""
        known = None if math.isnan(self.confidence) else self.confidence
        return self._asdict() | {"confidence": known, "right": self.text == self.label}


@dataclasses.dataclass
class EvaluationResult:
    """Rows and sums of one or several sets; `a + b` joins two results.

    Attributes:
        sets: name -> sums over that set.
        rows: the samples in the order they were read; hosts and sets one after the other.
    """

    sets: dict[str, Sums] = dataclasses.field(default_factory=dict)
    rows: list[Row] = dataclasses.field(default_factory=list)

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

    def __add__(self, other: "EvaluationResult") -> "EvaluationResult":
        names = [*self.sets, *(name for name in other.sets if name not in self.sets)]
        sets = {n: self.sets.get(n, Sums()) + other.sets.get(n, Sums()) for n in names}
        return EvaluationResult(sets, self.rows + other.rows)

    @property
    def combined(self) -> Sums:
        """Sums over all sets: each sample counts once, whatever set it is in."""
        return sum(self.sets.values(), Sums())

    def metrics(self) -> dict[str, float]:
        """Flat metrics of all sets together, as `Sums.metrics`, for logs."""
        return self.combined.metrics()

    def to_json(self) -> Iterator[dict[str, Any]]:
        """One record a set and, of several sets, one for all together.

        Each is `Sums.metrics` with the set's name under 'set', 95 % intervals as [low, high]
        under 'accuracy_interval' and so on, `calibration.summary` of the rows, and the counts of
        samples by reason under 'reasons'.
        """
        for name, sums in self._with_combined():
            record: dict[str, Any] = {"set": name} | sums.metrics()
            for metric, (attribute, _) in SHARES.items():
                record[f"{metric}_interval"] = list(wilson(getattr(sums, attribute), sums.count))
            record |= calibration.summary(*self.confidences(name))
            yield record | {"reasons": dict(sums.reasons)}

    def table(self) -> str:
        """The result for people: a line a set, shares in percent with their 95 % intervals."""
        headings = ["set", "count", *(heading for _, heading in SHARES.values())]
        lines = [[*headings, "CER %", "1-NED %", "empty", "unreadable"]]
        for name, sums in self._with_combined():
            cells = [name, str(sums.count)]
            for attribute, _ in SHARES.values():
                cells.append(_percent_with_interval(getattr(sums, attribute), sums.count))
            metrics = sums.metrics()
            for metric in ("cer", "ned"):
                cells.append(f"{100 * metrics[metric]:.2f}" if metric in metrics else "-")
            lines.append([*cells, str(sums.empty), str(sums.unreadable)])
        return "\n".join([*_aligned(lines), *self._left_out(), *self._how_sure()])

    def confidences(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(confidence float [n], right bool [n]) of a set's samples; of all sets for 'combined'.

        A picture that could not be read has confidence 0.
        """
        every = name == COMBINED and COMBINED not in self.sets
        rows = [row for row in self.rows if every or row.set == name]
        confidence = np.nan_to_num(np.array([row.confidence for row in rows], float))
        return confidence, np.array([row.text == row.label for row in rows], bool)

    def write_rows(self, stream: Any, *, as_json: bool) -> None:
        """Writes all samples to a text stream: JSON lines, or TSV with one line of headings."""
        if not as_json:
            stream.write("\t".join((*Row._fields, "right")) + "\n")
        for row in self.rows:
            record = row.to_json()
            if as_json:
                stream.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
            else:
                stream.write("\t".join(_tsv_cell(value) for value in record.values()) + "\n")

    def _with_combined(self) -> list[tuple[str, Sums]]:
        several = [(COMBINED, self.combined)] if len(self.sets) != 1 else []
        return [*self.sets.items(), *several]

    def _how_sure(self) -> Iterator[str]:
        for name, _ in self._with_combined():
            told = calibration.summary(*self.confidences(name))
            if told:
                yield (
                    f"{name}: confidence is off by {100 * told['calibration_error']:.1f} % on the "
                    f"average; {100 * told['coverage_at_99']:.1f} % can be read with 99 % right"
                )

    def _left_out(self) -> Iterator[str]:
        """What training would leave out or nothing could read: counted above all the same."""
        for name, sums in self.sets.items():
            for reason, count in sums.reasons.most_common():
                yield f"{name}: {count} of {sums.count}: {reason} (in the counts above)"


def _percent_with_interval(right: int, count: int) -> str:
    if count == 0:
        return "-"
    low, high = wilson(right, count)
    return f"{100 * right / count:.2f} ({100 * low:.1f}-{100 * high:.1f})"


def _aligned(lines: list[list[str]]) -> Iterator[str]:
    """Columns of one width: the first to the left, numbers to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        yield "  ".join([line[0].ljust(widths[0]), *cells[1:]])


def _tsv_cell(value: Any) -> str:
    """A value of one cell: no TAB and no line end may stay in it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    escaped = str(value).replace("\\", "\\\\").replace("\t", "\\t")
    return escaped.replace("\n", "\\n").replace("\r", "\\r")
