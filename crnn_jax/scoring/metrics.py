"""What is counted when readings are compared with labels: sums first, divisions last.

A pair of edits is (character of the label, character of the text); '' where there is none.
"""

import collections
import dataclasses
import math
import unicodedata
from collections.abc import Iterable
from typing import Any

import numpy as np

SHARES = {  # metric -> its heading
    "accuracy": "exact",
    "accuracy_ignore_case": "ignoring case",
    "accuracy_alphanumeric": "alphanumeric",
}
RIGHT = "right"
ERROR_KINDS = "wrong", "case only", "missing characters", "extra characters", "empty", "unreadable"
MAX_CHARACTERS = 1000  # of texts that are aligned: the table grows with both lengths

Pair = tuple[str, str]


@dataclasses.dataclass
class Sums:
    """Sums and counts over samples; `a + b` is that of both."""

    count: int = 0  # every sample: what could not be read is in it, and wrong
    exact: int = 0  # texts equal to the label, as they are and in two forms
    ignore_case: int = 0
    alphanumeric: int = 0
    alphanumeric_count: int = 0  # labels with a letter or digit; other forms equal reading nothing
    spaced: int = 0  # labels with a space
    ignore_spaces: int = 0  # texts equal to the label once all spaces are taken out
    edits: int = 0  # edit distances
    characters: int = 0  # of the labels
    similarity: float = 0.0  # 1 - distance / length of the longer of label and text
    empty: int = 0  # readings that are the empty text though the label is not
    unreadable: int = 0
    # Why samples are outside training or could not be read -> how many.
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    loss: float = 0.0  # CTC losses
    loss_count: int = 0  # of how many samples
    unseen: int = 0  # samples whose label is known not to be trained on
    unseen_exact: int = 0

    def add(self, label: str, text: str | None, loss: float = math.nan) -> None:
        """Counts a sample; text None: unreadable, wrong even without a label; loss NaN: none."""
        self.count += 1
        self.characters += len(label)
        self.spaced += " " in label
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
        self.ignore_spaces += label.replace(" ", "") == text.replace(" ", "")
        self.edits += distance
        self.similarity += 1 - distance / max(len(label), len(text), 1)
        self.empty += not text and bool(label)

    def __add__(self, other: "Sums") -> "Sums":
        fields = [f.name for f in dataclasses.fields(Sums)]
        return Sums(**{name: getattr(self, name) + getattr(other, name) for name in fields})

    def share(self, metric: str) -> tuple[int, int]:
        """(correct samples, samples) by a metric of `SHARES`."""
        return {
            "accuracy": (self.exact, self.count),
            "accuracy_ignore_case": (self.ignore_case, self.count),
            "accuracy_alphanumeric": (self.alphanumeric, self.alphanumeric_count),
        }[metric]

    def metrics(self) -> dict[str, Any]:
        """Shares of 1 and counts, flat; a share of nothing is left out, never NaN.

        Beside `SHARES`: cer (edits per character of the labels, may exceed 1), ned (the mean of
        1 - normalised edit distance: 1 is best), loss where losses were given,
        accuracy_ignore_spaces where a label has one, accuracy_unseen_labels where some labels, but
        not all, are trained on, and counts.
        """
        result: dict[str, Any] = {"count": self.count}
        shares = {metric: self.share(metric) for metric in SHARES}
        result |= {metric: right / count for metric, (right, count) in shares.items() if count}
        result["alphanumeric_count"] = self.alphanumeric_count
        if self.count:
            result["ned"] = self.similarity / self.count
        if self.spaced:
            result["accuracy_ignore_spaces"] = self.ignore_spaces / self.count
        if self.characters:
            result["cer"] = self.edits / self.characters
        if self.loss_count:
            result["loss"] = self.loss / self.loss_count
        if 0 < self.unseen < self.count:
            result["accuracy_unseen_labels"] = self.unseen_exact / self.unseen
            result["unseen_labels_count"] = self.unseen
        return result | {"empty": self.empty, "unreadable": self.unreadable}


def alphanumeric(text: str) -> str:
    """Lower-case letters and digits only, as scene-text benchmarks compare.

    Of every script: a filter for [0-9a-z] would make other labels empty, and so correct.
    """
    # Vowel signs are marks, and as much of a word as letters.
    return "".join(c for c in text.lower() if c.isalnum() or unicodedata.category(c)[0] == "M")


def wilson(right: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of `right` of `count` (JASA 22, 1927); (0, 1) of nothing."""
    from scipy.stats import binomtest  # a second to import, and training needs no interval

    if count == 0:
        return 0.0, 1.0
    low, high = binomtest(right, count).proportion_ci(method="wilson")
    return float(low), float(high)


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance: the fewest insertions, deletions and substitutions from `a` to `b`."""
    if a == b:
        return 0
    short, long = sorted((a, b), key=len)
    codes = np.frombuffer(long.encode("utf-32-le", "surrogatepass"), np.uint32)
    places = np.arange(len(long) + 1)
    row = places  # row[j]: edits from the characters of `short` so far to long[:j]
    for count, code in enumerate(map(ord, short), 1):
        cost = np.minimum(row[1:] + 1, row[:-1] + (codes != code))
        # A further character of `long` costs one edit more than the place before it.
        row = np.minimum.accumulate(np.concatenate(([count], cost)) - places) + places
    return int(row[-1])


def error_kind(label: str, text: str | None) -> str:
    """One of `ERROR_KINDS`, or `RIGHT`; 'missing' and 'extra' are deletions or insertions alone."""
    if text is None:
        return "unreadable"
    if text == label:
        return RIGHT
    if not text:
        return "empty"
    if text.lower() == label.lower():
        return "case only"
    distance = edit_distance(label, text)
    if distance == len(label) - len(text):
        return "missing characters"
    return "extra characters" if distance == len(text) - len(label) else "wrong"


def edits(label: str, text: str) -> list[Pair]:
    """The fewest edits from a label to a text, as pairs from the left, equal ones included.

    Of several shortest ways the one that substitutes as far left as it can is taken; characters
    beyond `MAX_CHARACTERS` are left out.
    """
    label, text = label[:MAX_CHARACTERS], text[:MAX_CHARACTERS]
    n, m = len(label), len(text)
    # costs[i][j]: edits from label[i:] to text[j:].
    costs = [[n - i + m - j for j in range(m + 1)] for i in range(n + 1)]
    for i in reversed(range(n)):
        for j in reversed(range(m)):
            ways = costs[i + 1][j], costs[i][j + 1], costs[i + 1][j + 1] - (label[i] == text[j])
            costs[i][j] = 1 + min(ways)
    pairs: list[Pair] = []
    i = j = 0
    while i < n or j < m:
        if i < n and j < m and costs[i][j] == costs[i + 1][j + 1] + (label[i] != text[j]):
            pairs.append((label[i], text[j]))
            i, j = i + 1, j + 1
        elif i < n and costs[i][j] == costs[i + 1][j] + 1:
            pairs.append((label[i], ""))
            i += 1
        else:
            pairs.append(("", text[j]))
            j += 1
    return pairs


def confusions(readings: Iterable[tuple[str, str | None]]) -> collections.Counter[Pair]:
    """Counts of the pairs that differ, over (label, text); where nothing was read none counts."""
    pairs = (edits(label, text) for label, text in readings if text and text != label)
    return collections.Counter((a, b) for found in pairs for a, b in found if a != b)
