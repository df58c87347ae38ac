"""What is counted when readings are compared with labels.

Everything here is a sum or a count, so that the parts of a data set, of several files or of
several hosts add up to the whole; `Sums.metrics` divides once, at the end. How far such a share may
be from the truth is told by `wilson`.
"""

import collections
import dataclasses
import math
from typing import Any


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance: the fewest insertions, deletions and substitutions from `a` to `b`.

    Myers' bit-parallel algorithm in Hyyro's form (G. Myers, JACM 46, 1999): a column of the
    table is two whole numbers, the places where it rises and where it falls by one.
    """
    if a == b:
        return 0
    if not a or not b:
        return len(a) or len(b)
    places: dict[str, int] = {}
    for i, character in enumerate(a):
        places[character] = places.get(character, 0) | (1 << i)
    every, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    rises, falls, distance = every, 0, len(a)
    for character in b:
        equal = places.get(character, 0)
        diagonal = (((equal & rises) + rises) ^ rises) | equal | falls
        row_rises = falls | (~(diagonal | rises) & every)
        row_falls = rises & diagonal
        distance += bool(row_rises & last) - bool(row_falls & last)
        # The row above grows by one with every character of b: a 1 moves in at the bottom.
        row_rises = (row_rises << 1 | 1) & every
        row_falls = (row_falls << 1) & every
        rises = row_falls | (~(diagonal | row_rises) & every)
        falls = row_rises & diagonal
    return distance


def alphanumeric(text: str) -> str:
    """Lower-case letters and digits only, as scene-text benchmarks compare.

    Of ASCII text it leaves [0-9a-z], the benchmarks' 36 characters; letters and digits of other
    scripts stay, where a filter for ASCII would make every such label empty and so "right".
    """
    return "".join(c for c in text.lower() if c.isalnum())


SHARES = {  # metric -> (attributes of `Sums`: the right ones, out of how many; heading)
    "accuracy": ("exact", "count", "exact"),
    "accuracy_ignore_case": ("ignore_case", "count", "ignoring case"),
    "accuracy_alphanumeric": ("alphanumeric", "alphanumeric_count", "alphanumeric"),
}


@dataclasses.dataclass
class Sums:
    """Sums and counts over samples; `a + b` is that of both.

    Attributes:
        count: samples, every one of them: what could not be read is in it, and wrong.
        exact: text equal to the label.
        ignore_case: equal in lower case.
        alphanumeric: equal in `alphanumeric` form.
        alphanumeric_count: samples whose label has a letter or digit; of others that form is
            empty, as is that of reading nothing.
        edits: edit distances, summed.
        characters: characters of the labels.
        similarity: sum of 1 - distance / length of the longer of label and text.
        empty: readings that are the empty text though the label is not.
        unreadable: pictures that could not be read.
        reasons: why samples are outside training or could not be read -> how many.
        loss, loss_count: sum of the CTC losses, and of how many samples.
    """

    count: int = 0
    exact: int = 0
    ignore_case: int = 0
    alphanumeric: int = 0
    alphanumeric_count: int = 0
    edits: int = 0
    characters: int = 0
    similarity: float = 0.0
    empty: int = 0
    unreadable: int = 0
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    loss: float = 0.0
    loss_count: int = 0

    def add(self, label: str, text: str | None, loss: float = math.nan) -> None:
        """Counts one sample.

        Args:
            label: what stands in the picture.
            text: what was read; None if the picture could not be read, which counts as wrong
                even where the label is empty.
            loss: its CTC loss in nats; NaN where there is none.
        """
        self.count += 1
        self.characters += len(label)
        letters = alphanumeric(label)
        self.alphanumeric_count += bool(letters)
        if not math.isnan(loss):
            self.loss += loss
            self.loss_count += 1
        if text is None:
            self.unreadable += 1
            self.edits += len(label)
            return
        distance = edit_distance(label, text)
        self.exact += label == text
        self.ignore_case += label.lower() == text.lower()
        self.alphanumeric += bool(letters) and letters == alphanumeric(text)
        self.edits += distance
        self.similarity += 1 - distance / max(len(label), len(text), 1)
        self.empty += not text and bool(label)

    def __add__(self, other: "Sums") -> "Sums":
        fields = [f.name for f in dataclasses.fields(Sums)]
        return Sums(**{name: getattr(self, name) + getattr(other, name) for name in fields})

    def metrics(self) -> dict[str, Any]:
        """Shares of 1 and counts, flat; a share of nothing is left out, never NaN.

        Returns:
            count, accuracy, accuracy_ignore_case, accuracy_alphanumeric (of alphanumeric_count),
            cer (edits per character of the labels, may exceed 1), ned (the mean of 1 - normalised
            edit distance: 1 is best), empty, unreadable, and loss where losses were given.
        """
        result: dict[str, Any] = {"count": self.count}
        for metric, (right, of, _) in SHARES.items():
            if count := getattr(self, of):
                result[metric] = getattr(self, right) / count
        result["alphanumeric_count"] = self.alphanumeric_count
        if self.count:
            result["ned"] = self.similarity / self.count
        if self.characters:
            result["cer"] = self.edits / self.characters
        if self.loss_count:
            result["loss"] = self.loss / self.loss_count
        return result | {"empty": self.empty, "unreadable": self.unreadable}


def wilson(right: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of `right` of `count`; (0, 1) of nothing.

    Unlike the textbook's p +- z * sqrt(p (1 - p) / n) it stays within [0, 1] and is not empty at
    0 of n and n of n, where good readers are (E. B. Wilson, JASA 22, 1927).
    """
    from scipy.stats import binomtest  # a second to import, and training needs no interval

    if count == 0:
        return 0.0, 1.0
    low, high = binomtest(right, count).proportion_ci(method="wilson")
    return float(low), float(high)
