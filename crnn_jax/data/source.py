"""What a source of labelled images is, and how samples that cannot be used are counted."""

import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from tqdm import tqdm

from crnn_jax.core import images
from crnn_jax.core.errors import shown, shown_path
from crnn_jax.core.geometry import frames_needed_flat, num_frames
from crnn_jax.core.preprocessing import Preprocessing

# Why a sample is not trained on, because of its label: the meaning of an index's status byte.
STATUS = (
    USABLE := "usable",
    NO_LABEL := "no label",
    UNKNOWN_CHARACTER := "unknown character",
    MISSING_LABEL := "record without a label",
    NOT_UTF8 := "label not UTF-8",
    LINE_BREAK := "line break in the label",
    DAMAGED_RECORD := "damaged record",
)
# Because of its image.
TOO_LONG = "too long for max_label_length"
TOO_LONG_FOR_WIDTH = "too long for its width"
CHANGED = "changed since indexing"

EXAMPLES = 5  # kept for each reason
# Characters of a label: no image has as many frames, and NFC's time may grow with their square.
LONGEST_LABEL = 20_000
CHUNK = 1 << 18  # samples looked at together: a bound on memory


class Reasons:
    """Samples that cannot be used, counted by reason, with the first few of each as examples."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, reason: str, examples: Iterable[str] = (), count: int = 1) -> None:
        """Counts `count` samples; `examples` is read no further than needed."""
        if count > 0:
            self.counts[reason] += count
            kept = self.examples.setdefault(reason, [])
            kept += [e for _, e in zip(range(EXAMPLES - len(kept)), examples, strict=False)]

    def update(self, *others: "Reasons") -> "Reasons":
        """Adds the counts of other sources; returns itself."""
        for other in others:
            for reason, count in other.counts.items():
                self.add(reason, other.examples[reason], count)
        return self

    def total(self) -> int:
        """How many samples."""
        return self.counts.total()

    def lines(self) -> list[str]:
        """One line per reason, the most frequent first, for a log."""
        found = ((f"{n:,} {why}", self.examples[why][:3]) for why, n in self.counts.most_common())
        return [line + (f": {', '.join(examples)}" if examples else "") for line, examples in found]

    def to_json(self) -> dict[str, Any]:
        """reason -> {"count", "examples"}."""
        return {
            reason: {"count": count, "examples": self.examples[reason]}
            for reason, count in self.counts.most_common()
        }


class Block(NamedTuple):
    """n samples of a stored set, as its reader (`Annotation`, `LmdbRecords`) finds them."""

    places: list[int]  # where the reader finds the samples again
    labels: list[str]  # without line breaks
    status: list[int]  # place in `STATUS` where the reader knows that there is no label, else 0
    done: int  # how far the reader is, for the progress bar


@runtime_checkable
class Source(Protocol):
    """Labelled images, looked up by id, 0 to len - 1.

    If `windowed` is True every epoch has samples of its own: epoch e asks for the ids
    e * len to (e + 1) * len - 1, labels and sizes are asked for one window at a time, and every
    sample can be trained on.
    """

    name: str
    windowed: bool

    def __len__(self) -> int: ...

    def labels_of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(class ids of these samples' labels, concatenated; int64 offsets [m + 1])."""

    @property
    def usable(self) -> np.ndarray:
        """bool [n]: the label can be trained on."""

    @property
    def reasons(self) -> Reasons:
        """Why the others cannot."""

    @property
    def notes(self) -> Reasons:
        """What is trained on, but not as it is written: labels that were changed."""

    def sizes(self, ids: np.ndarray) -> np.ndarray:
        """int32 [m, 2]: height and width in pixels; (0, -k) if unreadable for `REASONS[k]`."""

    def read(self, ids: np.ndarray) -> list[np.ndarray | str]:
        """uint8 [h w c] for each sample, or the reason why it cannot be read."""

    def text(self, index: int) -> str:
        """The whole label, normalized, including characters outside the table."""

    def identity(self, index: int) -> str:
        """The sample's name for people: its path."""


def gather(flat: np.ndarray, offsets: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels of samples `ids`, out of n concatenated labels and their int64 offsets [n + 1]."""
    ids = np.asarray(ids, np.int64)
    start = offsets[ids]
    lengths = offsets[ids + 1] - start
    ends = np.zeros(ids.size + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    # Position p of the result lies (p - its label's start in the result) after its label's start.
    at = np.arange(ends[-1]) + np.repeat(start - ends[:-1], lengths)
    return flat[at], ends


def seen_labels(train: Source, others: Sequence[Source]) -> list[np.ndarray]:
    """Of each other source bool [n]: `train` has the label too; rendered labels never count."""

    def hashes(source: Source) -> Iterator[np.ndarray]:
        for begin in range(0, len(source), CHUNK):
            ids = np.arange(begin, min(begin + CHUNK, len(source)))
            if source.windowed:
                yield np.zeros(ids.size, np.int64)
                continue
            flat, offsets = source.labels_of(ids)
            data = flat.astype(np.int32).tobytes()
            labels = (data[4 * a : 4 * b] for a, b in itertools.pairwise(offsets.tolist()))
            yield np.fromiter(map(hash, labels), np.int64, ids.size)  # that of no bytes is 0

    parts = getattr(train, "sources", (train,)) if others else ()  # of a mixture
    known = [np.unique(some) for part in parts for some in hashes(part)]
    trained = np.concatenate([np.zeros(0, np.int64), *known])
    found = (np.concatenate([*hashes(other)]) for other in others)
    return [np.isin(some, trained) & (some != 0) for some in found]


def is_rendered(source: Source, ids: np.ndarray) -> np.ndarray:
    """bool [m]: which samples are rendered rather than photographed (they come distorted)."""
    if hasattr(source, "rendered"):
        return source.rendered(ids)
    return np.full(len(ids), source.windowed)


def trainable(
    source: Source,
    preprocessing: Preprocessing,
    geometry: str,
    max_label_length: int = 0,
    *,
    headers: bool = False,
) -> tuple[np.ndarray, Reasons]:
    """Which samples of a source that is not windowed can be trained on: bool [n], why not others.

    Every header is read (once) where images keep their own width, or if `headers` asks for it.
    """
    usable, reasons = source.usable.copy(), Reasons().update(source.reasons)
    for begin in range(0, len(source), CHUNK):
        ids = begin + np.flatnonzero(usable[begin : begin + CHUNK])
        flat, offsets = source.labels_of(ids)
        width = np.full(ids.size, preprocessing.width, np.int64)
        faults: list[tuple[str, np.ndarray]] = []  # the first that a sample has is counted
        if preprocessing.free_width or headers:
            sizes = source.sizes(ids)
            width = resized_widths(sizes, preprocessing)
            unreadable = np.where(sizes[:, 0] == 0, -sizes[:, 1], -1)
            for k in np.unique(unreadable[unreadable >= 0]).tolist():
                faults.append((images.REASONS[k], unreadable == k))
        if max_label_length:
            faults.append((TOO_LONG, np.diff(offsets) > max_label_length))
        needed = frames_needed_flat(flat, offsets)
        faults.append((TOO_LONG_FOR_WIDTH, needed > num_frames(width, geometry)))
        for reason, bad in faults:
            bad = bad & usable[ids]
            usable[ids[bad]] = False
            examples = (described(source, i) for i in ids[bad][:EXAMPLES].tolist())
            reasons.add(reason, examples, int(bad.sum()))
    return usable, reasons


def resized_widths(sizes: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """int64 [m]: widths in pixels after preprocessing, out of `Source.sizes`; 0 if unreadable."""
    readable = sizes[:, 0] > 0
    height, width = np.where(readable[:, None], sizes, 1).T
    return np.where(readable, preprocessing.target_width(height, width), 0)


def described(source: Source, index: int) -> str:
    """A sample for lists of what was left out: its path and its label."""
    return f"{shown_path(source.identity(index))} {shown(source.text(index))}"


def progress_bar(what: str, total: int, done: int = 0) -> tqdm:
    """A bar on stderr, after two seconds of silence; few lines where stderr is a log."""
    every = 0.5 if sys.stderr.isatty() else 5.0
    return tqdm(desc=what, total=total, initial=done, delay=2.0, mininterval=every)
