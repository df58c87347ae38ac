"""What a source of labelled pictures is, and how samples that cannot be used are counted."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

# Why a line of a source is not trained on. The first entry says that it is.
USABLE = "usable"
NO_LABEL = "no label"
UNKNOWN_CHARACTER = "unknown character"
# What was changed in labels that are trained on.
COMPOSED = "label not in NFC, composed"
STRIPPED = "label without its unknown characters (data.unknown='strip')"
MAPPED = "label with <UNK> for its unknown characters (data.unknown='map')"
TOO_LONG = "too long for max_label_length"
TOO_LONG_FOR_WIDTH = "too long for its width"
CHANGED = "changed since indexing"
# What people should know of paths.
OUTSIDE = "path absolute, or out of the folder by '..': read all the same"
NOT_LISTED = (
    "left out: a name with a line break or not UTF-8, a folder that is a link or cannot be listed"
)

EXAMPLES = 5  # kept a reason


class Reasons:
    """Samples that cannot be used, counted by reason, a few of each by name.

    Attributes:
        counts: reason -> number of samples.
        examples: reason -> the first few samples, as people would look for them.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, reason: str, examples: Iterable[str] = (), count: int = 1) -> None:
        """Counts `count` samples; the examples beyond the first few are not looked at."""
        if count <= 0:
            return
        self.counts[reason] += count
        kept = self.examples.setdefault(reason, [])
        for example in examples:
            if len(kept) >= EXAMPLES:
                break
            kept.append(example)

    def update(self, other: "Reasons") -> None:
        """Adds another source's counts."""
        for reason, count in other.counts.items():
            self.add(reason, other.examples.get(reason, ()), count)

    def total(self) -> int:
        """Number of samples that cannot be used."""
        return self.counts.total()

    def lines(self) -> list[str]:
        """One line a reason, the most frequent first, for a log."""
        lines = []
        for reason, count in self.counts.most_common():
            examples = ", ".join(self.examples.get(reason, ())[:3])
            lines.append(f"{count:,} {reason}" + (f": {examples}" if examples else ""))
        return lines

    def to_json(self) -> dict[str, Any]:
        """reason -> {"count", "examples"}."""
        return {
            reason: {"count": count, "examples": self.examples.get(reason, [])}
            for reason, count in self.counts.most_common()
        }

    def __repr__(self) -> str:
        return f"Reasons({dict(self.counts)})"


@runtime_checkable
class Source(Protocol):
    """Labelled pictures that can be asked for by id, 0 to len - 1.

    Where `windowed` is True every epoch has samples of its own: epoch e asks for the ids
    e * len to (e + 1) * len - 1, labels and sizes are asked for one window at a time, and all
    samples can be trained on.
    """

    name: str
    windowed: bool

    def __len__(self) -> int: ...

    @property
    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """(class ids of all labels one after the other, int64 offsets [n + 1])."""

    def labels_of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same of some samples: (flat class ids, int64 offsets [m + 1])."""

    @property
    def usable(self) -> np.ndarray:
        """bool [n]: the label can be trained on, as far as the line tells."""

    @property
    def reasons(self) -> Reasons:
        """Why the others cannot."""

    @property
    def notes(self) -> Reasons:
        """What is trained on, but not as it is written: labels that were changed."""

    def sizes(self, ids: np.ndarray) -> np.ndarray:
        """int32 [m, 2]: height and width in pixels as `read` gives them, without decoding.

        A height of 0 stands for a picture that cannot be read (see `size_reason`).
        """

    def read(self, ids: np.ndarray) -> list[np.ndarray | str]:
        """uint8 [h w c] a sample, or the reason why it cannot be read."""

    def text(self, index: int) -> str:
        """The whole label, normalized, with characters that the table does not know."""

    def identity(self, index: int) -> str:
        """What people call the sample: its path."""


def gather(flat: np.ndarray, offsets: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels of some samples out of flat labels.

    Args:
        flat: integer [sum of lengths].
        offsets: int64 [n + 1].
        ids: integer [m], each in 0 .. n - 1.

    Returns:
        (flat labels of these samples in this order, int64 offsets [m + 1]).
    """
    ids = np.asarray(ids, np.int64)
    start = offsets[ids]
    lengths = offsets[ids + 1] - start
    ends = np.zeros(ids.size + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    # Position p of the answer lies (p - where its label begins there) behind its label's start.
    at = np.arange(ends[-1]) + np.repeat(start - ends[:-1], lengths)
    return flat[at], ends


def merged(reasons: Mapping[str, Reasons] | Iterable[Reasons]) -> Reasons:
    """The sum of several counts."""
    total = Reasons()
    for one in reasons.values() if isinstance(reasons, Mapping) else reasons:
        total.update(one)
    return total


def is_rendered(source: Source, ids: np.ndarray) -> np.ndarray:
    """bool [m]: which samples are drawn rather than photographed (they come distorted)."""
    if hasattr(source, "rendered"):
        return source.rendered(ids)
    return np.full(len(ids), source.windowed)
