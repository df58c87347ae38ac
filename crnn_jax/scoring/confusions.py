"""What is wrong with a reading: its kind of error, and which characters are read as which others.

    error_kind(row)         # 'missing characters'
    edits('cat', 'at')      # [('c', ''), ('a', 'a'), ('t', 't')]
    confusions(rows)        # Counter({('0', 'o'): 12, ('l', ''): 3, ...})

A pair is (character of the label, character of the text): '' on the left is one that was read
though nothing stands there, '' on the right one that was missed.
"""

import collections
import itertools
from collections.abc import Iterable

from crnn_jax.scoring.metrics import edit_distance
from crnn_jax.scoring.result import Row

RIGHT = "right"
WRONG = "wrong"
CASE = "case only"
MISSING = "missing characters"
EXTRA = "extra characters"
EMPTY = "empty"
UNREADABLE = "unreadable"
ERROR_KINDS = (WRONG, CASE, MISSING, EXTRA, EMPTY, UNREADABLE)

Pair = tuple[str, str]
# The table of two texts grows with both lengths: a page of 20,000 characters would fill memory.
MAX_CHARACTERS = 1000


def error_kind(row: Row) -> str:
    """The kind of a sample's error, `RIGHT` where there is none.

    MISSING and EXTRA are readings that insertions alone, or deletions alone, separate from the
    label; every other difference is WRONG.
    """
    if row.text is None:
        return UNREADABLE
    if row.text == row.label:
        return RIGHT
    if not row.text:
        return EMPTY
    if row.text.lower() == row.label.lower():
        return CASE
    distance = edit_distance(row.label, row.text)
    if distance == len(row.label) - len(row.text):
        return MISSING
    return EXTRA if distance == len(row.text) - len(row.label) else WRONG


def edits(label: str, text: str) -> list[Pair]:
    """The fewest edits from a label to a text, as pairs from the left, equal ones included.

    Of several shortest ways the one that substitutes as far left as it can is taken. What goes
    beyond 1000 characters is left out of both.
    """
    label, text = label[:MAX_CHARACTERS], text[:MAX_CHARACTERS]
    # Most of a line is right: what both begin and end with needs no table.
    start = _equal(label, text)
    end = _equal(label[start:][::-1], text[start:][::-1])
    stop = len(label) - end
    inner = _edits(label[start:stop], text[start : len(text) - end])
    return [*((c, c) for c in label[:start]), *inner, *((c, c) for c in label[stop:])]


def _equal(a: str, b: str) -> int:
    """How many characters two texts begin with together."""
    pairs = zip(a, b, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _edits(label: str, text: str) -> list[Pair]:
    # rows[i][j]: edits from label[i:] to text[j:].
    rows = [[0] * (len(text) + 1) for _ in range(len(label) + 1)]
    for i in range(len(label), -1, -1):
        for j in range(len(text), -1, -1):
            if i == len(label) or j == len(text):
                rows[i][j] = len(label) - i + len(text) - j
            elif label[i] == text[j]:
                rows[i][j] = rows[i + 1][j + 1]
            else:
                rows[i][j] = 1 + min(rows[i + 1][j + 1], rows[i + 1][j], rows[i][j + 1])
    pairs: list[Pair] = []
    i = j = 0
    while i < len(label) or j < len(text):
        both = i < len(label) and j < len(text)
        if both and rows[i][j] == rows[i + 1][j + 1] + (label[i] != text[j]):
            pairs.append((label[i], text[j]))
            i, j = i + 1, j + 1
        elif i < len(label) and rows[i][j] == rows[i + 1][j] + 1:
            pairs.append((label[i], ""))
            i += 1
        else:
            pairs.append(("", text[j]))
            j += 1
    return pairs


def confusions(rows: Iterable[Row]) -> collections.Counter[Pair]:
    """Counts of the pairs that differ; pictures that nothing was read in say nothing here."""
    counts: collections.Counter[Pair] = collections.Counter()
    for row in rows:
        if row.text and not row.right:
            counts.update(pair for pair in edits(row.label, row.text) if pair[0] != pair[1])
    return counts


def most_confused(counts: collections.Counter[Pair], limit: int) -> list[str]:
    """The characters of the most frequent substitutions, at most `limit`, in code point order.

    Whole pairs are taken, so that of thousands of characters those remain that meet each other.
    """
    chosen: set[str] = set()
    for pair, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if "" not in pair and len(chosen.union(pair)) <= limit:
            chosen.update(pair)
    return sorted(chosen)
