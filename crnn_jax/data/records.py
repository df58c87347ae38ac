"""What a store of encoded pictures and labels is (LMDB, ArrayRecord), and the index of its labels.

Records are numbered from 0. They hold what somebody else's program wrote: a label that is missing
or is no text is a sample counted under its reason, as is a picture that cannot be read.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from crnn_jax.data.cache import cache_paths, load, save
from crnn_jax.data.encoding import (
    STATUS,
    Encoded,
    LabelEncoder,
    LabelError,
    count_denormalized,
)
from crnn_jax.data.index import ARRAYS, WORTH_SECONDS, Growing, Index, no_counts
from crnn_jax.data.progress import Progress
from crnn_jax.data.source import Reasons

MISSING_LABEL = "record without a label"
NOT_UTF8 = "label not UTF-8"
LINE_BREAK = "line break in the label"
DAMAGED_RECORD = "damaged record"
NO_TEXT = "label with too many combining marks"
# What a status byte stands for: those of labels, then those of records.
RECORD_STATUS = (*STATUS, MISSING_LABEL, NOT_UTF8, LINE_BREAK, DAMAGED_RECORD, NO_TEXT)
TOGETHER = 1 << 16  # labels encoded at once


class Records(Protocol):
    """Encoded pictures and labels by number; can be pickled, and opens its files again."""

    path: str
    form: str  # 'lmdb' or 'array_record'

    def __len__(self) -> int: ...

    def stamp(self) -> list[Any]:
        """What the files were when they were opened: another stamp, other records."""

    def labels(self) -> Iterator[bytes | str]:
        """Every label in order, as bytes; a str is the reason why there is none."""

    def label(self, number: int) -> bytes | str:
        """One of them."""

    def picture(self, number: int) -> bytes:
        """An encoded picture. Raises UnreadableImage where there is none."""

    def key(self, number: int) -> str:
        """What a record is called in its store."""

    def lost(self) -> Reasons:
        """Samples that the store says it has and has not: they have no number."""

    def notes(self) -> Reasons:
        """What else contradicts itself."""


def cached_record_index(records: Records, encode: LabelEncoder, keep: bool) -> Index:
    """`record_index`, or what it gave before.

    Args:
        records: the store.
        encode: of the charset in use.
        keep: look for a cache, and write one where indexing took long.
    """
    if not keep:
        return record_index(records, encode)
    charset = encode.charset.to_metadata()
    key = {"charset": charset, "unknown": encode.unknown, "format": records.form}
    paths, stamp = cache_paths(records.path, "index", key), records.stamp()
    found = load(paths, stamp)
    if found is not None:
        path, note, arrays = found
        return Index(**arrays, counts=note[0], unknown=Counter(note[1]), file=path)
    started = time.monotonic()
    index = record_index(records, encode)
    if time.monotonic() - started > WORTH_SECONDS:
        arrays = {name: getattr(index, name) for name in ARRAYS}
        save(paths, stamp, [index.counts, index.unknown], arrays)
    return index


def record_index(records: Records, encode: LabelEncoder) -> Index:
    """Reads every label once; `line_offsets` are the records' numbers."""
    lengths, flat, status = Growing(np.int64), Growing(encode.dtype), Growing(np.uint8)
    counts = no_counts()
    unknown: Counter[str] = Counter()
    progress = Progress(f"{records.path}: labels indexed", len(records))
    progress(0)
    lengths.append([0])
    for labels, marks in _pieces(records.labels()):
        part = _encoded(encode, labels, marks)
        counts["not NFC"] += count_denormalized(labels)
        counts["unknown"] += int(part.has_unknown.sum())
        if part.case_alone.any():
            counts["case"] += int(part.case_alone.sum())
            if counts["first case"] < 0:
                counts["first case"] = status.size + int(part.case_alone.argmax())
        unknown.update(part.unknown)
        lengths.append(part.lengths)
        flat.append(part.flat)
        status.append(np.where(marks > 0, marks, part.status))
        progress(status.size)
    offsets = lengths.array()
    np.cumsum(offsets, out=offsets)
    numbers = np.arange(status.size)
    return Index(numbers, flat.array(), offsets, status.array(), counts, unknown)


def _encoded(encode: LabelEncoder, labels: list[str], marks: np.ndarray) -> Encoded:
    """The labels' class ids; those that nothing can be made of become empty, and are marked."""
    try:
        return encode(labels)
    except LabelError as error:
        for index in error.indices:
            labels[index] = ""
        marks[error.indices] = RECORD_STATUS.index(NO_TEXT)
        return encode(labels)


def _pieces(labels: Iterable[bytes | str]) -> Iterator[tuple[list[str], np.ndarray]]:
    """(labels, '' for those that are none; uint8 status of a record that has none, or 0)."""
    texts: list[str] = []
    marks: list[int] = []
    for label in labels:
        text, reason = text_of(label)
        texts.append("" if reason else text)
        marks.append(RECORD_STATUS.index(reason) if reason else 0)
        if len(texts) == TOGETHER:
            yield texts, np.array(marks, np.uint8)
            texts, marks = [], []
    if texts:
        yield texts, np.array(marks, np.uint8)


def text_of(label: bytes | str) -> tuple[str, str]:
    """A record's label as far as it can be shown, and why it cannot be used ('' where it can)."""
    if isinstance(label, str):
        return "", label
    try:
        text = label.decode()
    except UnicodeDecodeError:
        return label.decode("utf-8", "replace"), NOT_UTF8
    # A CR is what remains of a text file's line when its writer took off the LF alone.
    text = text.rstrip("\r\n")
    return text, LINE_BREAK if "\n" in text else ""
