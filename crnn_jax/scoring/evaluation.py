"""An evaluation: every sample of a source is read and counted.

Training and the `evaluate` command share it. Results of parts (files, hosts) add up.
"""

import bisect
import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.scoring.metrics import SHARES, Sums, wilson

COMBINED = "combined"
# Where the next group begins: each word length is a group, text lines share.
LENGTHS = (*range(1, 12), 16, 21, 31, 51, 101)
LENGTH_GROUPS = (*map(str, range(11)), "11-15", "16-20", "21-30", "31-50", "51-100", "over 100")
ASPECTS = (1, 2, 3, 4, 6, 8, 12, 20, math.inf)
_BETWEEN = (f"{low}-{high}" for low, high in itertools.pairwise(ASPECTS[:-1]))
ASPECT_GROUPS = ("under 1", *_BETWEEN, "20 or more", "unknown")


class Row(NamedTuple):
    """One sample."""

    id: int  # its number in the source
    path: str  # what a person finds it by
    set: str  # name of the file or source it belongs to
    label: str
    text: str | None  # None if the image could not be read
    confidence: float  # p(text | image); NaN if it could not be read
    reason: str | None = None  # why it could not

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
    """Rows and sums of one or several sets; `a + b` joins two results."""

    sets: dict[str, Sums] = dataclasses.field(default_factory=dict)
    rows: list[Row] = dataclasses.field(default_factory=list)
    # (set, id) -> width / height of the image, where it is known.
    aspects: dict[tuple[str, int], float] = dataclasses.field(default_factory=dict)

    def add(self, row: Row, loss: float = math.nan) -> None:
        """Counts one sample; `loss` is its CTC loss in nats, NaN where there is none."""
        sums = self.sets.setdefault(row.set, Sums())
        sums.add(row.label, row.text, loss)
        if row.reason is not None:
            sums.reasons[row.reason] += 1
        self.rows.append(row)

    def note_reasons(self, name: str, reasons: Mapping[str, int]) -> None:
        """Notes `Plan.reasons.counts`; images that could not be read are not counted twice."""
        noted = self.sets.setdefault(name, Sums()).reasons
        for reason, count in reasons.items():
            noted[reason] = max(noted[reason], count)

    def note_seen(self, name: str, seen: np.ndarray) -> None:
        """Notes which samples of a set have a label that is trained on: bool, by their ids."""
        unseen = [row.right for row in self._rows_of(name) if not seen[row.id]]
        sums = self.sets.setdefault(name, Sums())
        sums.unseen, sums.unseen_exact = len(unseen), sum(unseen)

    def note_aspects(self, name: str, sizes: np.ndarray) -> None:
        """Notes sizes of a set's images: int [n, 2], (height, width), height 0: not known."""
        for i, (height, width) in enumerate(sizes.tolist()):
            if height > 0:
                self.aspects[name, i] = width / height

    def __add__(self, other: "EvaluationResult") -> "EvaluationResult":
        names = dict.fromkeys((*self.sets, *other.sets))
        sets = {n: self.sets.get(n, Sums()) + other.sets.get(n, Sums()) for n in names}
        return EvaluationResult(sets, self.rows + other.rows, self.aspects | other.aspects)

    def to_message(self) -> dict[str, Any]:
        """JSON values for other processes: all sums, and the rows of unreadable images."""
        unread = [row for row in self.rows if row.reason is not None]
        return {"sets": {name: vars(sums) for name, sums in self.sets.items()}, "rows": unread}

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "EvaluationResult":
        """The opposite of `to_message`."""
        sets = {
            name: Sums(**{**sums, "reasons": Counter(sums["reasons"])})
            for name, sums in message["sets"].items()
        }
        return cls(sets, [Row(*row) for row in message["rows"]])

    def with_combined(self) -> list[tuple[str, Sums]]:
        """The sets and, unless there is exactly one, 'combined': each sample counts once."""
        several = [(COMBINED, sum(self.sets.values(), Sums()))] if len(self.sets) != 1 else []
        return [*self.sets.items(), *several]

    def metrics(self) -> dict[str, float]:
        """Flat metrics of all sets together, as `Sums.metrics`, for logs."""
        return sum(self.sets.values(), Sums()).metrics()

    def _rows_of(self, name: str) -> list[Row]:
        every = name == COMBINED and COMBINED not in self.sets
        return [row for row in self.rows if every or row.set == name]

    def confidences(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(confidence float [n], correct bool [n]) of a set or 'combined'; 0 where unreadable."""
        rows = self._rows_of(name)
        confidence = np.nan_to_num(np.array([row.confidence for row in rows], float))
        return confidence, np.array([row.right for row in rows], bool)

    def groups(self, name: str) -> dict[str, dict[str, Sums]]:
        """'by_length' and, where sizes are known, 'by_aspect'; those that are not empty."""
        rows = self._rows_of(name)
        found = {"by_length": _grouped(rows, lambda r: len(r.label), LENGTHS, LENGTH_GROUPS)}

        def aspect(row: Row) -> float:
            return self.aspects.get((row.set, row.id), math.inf)

        if any((row.set, row.id) in self.aspects for row in rows):
            found["by_aspect"] = _grouped(rows, aspect, ASPECTS, ASPECT_GROUPS)
        return found

    def to_json(self) -> Iterator[dict[str, Any]]:
        """A record a set and, of several, one of all together: metrics, intervals, groups."""
        from crnn_jax.scoring import calibration  # training logs metrics() alone

        for name, sums in self.with_combined():
            record: dict[str, Any] = {"set": name} | _with_intervals(sums)
            record |= calibration.summary(*self.confidences(name))
            for key, groups in self.groups(name).items():
                record[key] = {group: _with_intervals(s) for group, s in groups.items()}
            yield record | {"reasons": dict(sums.reasons)}


def _grouped(
    rows: Iterable[Row], value: Callable[[Row], float], edges: Sequence[float], names: Sequence[str]
) -> dict[str, Sums]:
    groups: dict[str, Sums] = {}
    for row in sorted(rows, key=value):
        name = names[bisect.bisect_right(edges, value(row))]
        groups.setdefault(name, Sums()).add(row.label, row.text)
    return groups


def _with_intervals(sums: Sums) -> dict[str, Any]:
    return sums.metrics() | {f"{m}_interval": list(wilson(*sums.share(m))) for m in SHARES}


class Prediction(NamedTuple):
    """What `predict` returns for a batch; NumPy or JAX arrays."""

    ids: Any  # int32 [b n], class ids of the texts from the left
    id_lengths: Any  # int32 [b]
    log_prob: Any  # float32 [b], log p(text | image)
    loss: Any = None  # float32 [b], CTC loss of the label, NaN where it fits no alignment


def evaluate_batches(
    predict: Callable[[Any], tuple[Any, ...]], batches: Iterable[Any], source: Any, charset: Charset
) -> EvaluationResult:
    """Evaluates on batches of one source; the rows are in its order.

    A batch is sent to `predict` before the previous answer is waited for: a device is never idle.

    Args:
        predict: batch -> `Prediction` (or a tuple of its first three or four).
        batches: of `data.loader`, every sample of `source` once: a second time is a ValueError. Of
            several hosts each passes its own and the results are added.
    """
    result = EvaluationResult()
    seen: set[int] = set()

    def started() -> Iterator[Any]:
        for batch in batches:
            for sample in (int(i) for i in batch["id"] if i >= 0):
                if sample in seen:
                    raise ValueError(f"{source.name}: sample {sample} came twice")
                seen.add(sample)
            yield batch, Prediction(*predict(batch))
        yield None

    for (batch, predicted), _ in itertools.pairwise(started()):
        ids, lengths, log_probs = (np.asarray(array) for array in predicted[:3])
        losses = None if predicted.loss is None else np.asarray(predicted.loss)
        failed = dict(batch["failed"])
        for i, sample in enumerate(int(s) for s in batch["id"]):
            if sample < 0:  # fills the batch
                continue
            known = (sample, source.identity(sample), source.name, source.text(sample))
            if sample in failed:
                result.add(Row(*known, None, math.nan, failed[sample]))
                continue
            text = charset.decode(ids[i, : lengths[i]])
            confidence = math.exp(min(float(log_probs[i]), 0.0))
            loss = math.nan if losses is None else float(losses[i])
            result.add(Row(*known, text, confidence), loss)
    result.rows.sort(key=lambda row: row.id)  # batches follow widths, people the file
    return result
