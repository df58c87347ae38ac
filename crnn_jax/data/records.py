"""Encoded images and labels in a store of records: LMDB or ArrayRecord, not millions of files.

LMDB as deep-text-recognition-benchmark and parseq write it:

    num-samples       b'7224612'
    image-000000001   an encoded image
    label-000000001   its text, UTF-8

ArrayRecord shards of tf.train.Example, as TFDS and `python -m crnn_jax.shards` write them; reading
them needs neither TensorFlow nor TFDS. A folder with several splits is named FOLDER/SPLIT:

    words-train.array_record-00000-of-00004    image: encoded, label or text: UTF-8, path: a name
"""

import abc
import functools
import importlib
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from crnn_jax.core.errors import UserError
from crnn_jax.core.images import DAMAGED, MISSING, UnreadableImage
from crnn_jax.data.source import (
    DAMAGED_RECORD,
    LINE_BREAK,
    LONGEST_LABEL,
    MISSING_LABEL,
    NOT_UTF8,
    STATUS,
    USABLE,
    Block,
)

LMDB_FILE = "data.mdb"
SPARE_PAGES = 16  # that a sound LMDB may lack at its end: freed before they were written
IMAGE, LABELS, PATH = "image", ("label", "text"), "path"
TOGETHER = 1000  # records of a block
RECENT = 4096  # records whose labels are kept: more than a batch
DAMAGED_ERRORS = (RuntimeError, ValueError, LookupError)  # of array_record and `bytes_features`
_SHARD = re.compile(r"(.*?)\.array_?record(?:-(\d+)-of-(\d+))?")


class Record(NamedTuple):
    """A label as far as it can be shown, one of `STATUS`, and the record's name."""

    text: str
    status: str
    name: str


def open_records(path: str) -> "LmdbRecords | ArrayRecords | None":
    """The store of records at this path; None where there is none."""
    if os.path.isfile(os.path.join(path, LMDB_FILE)):
        return LmdbRecords(path)
    shards = find_shards(path)
    return ArrayRecords(path, shards) if shards else None


class Records(abc.ABC):
    """What the stores share: a reader like `annotations.Annotation`, whose places are numbers."""

    no_image = ", nor in the records after it"
    left_out = ()
    total: int

    def __init__(self, path: str, files: list[str]) -> None:
        self.path = self.root = path
        self.files = files  # that hold the records

    @abc.abstractmethod
    def record(self, number: int) -> Record:
        """A record without its image."""

    def stamp(self) -> list[Any]:
        """Path, size and time of every file."""
        states = ((os.path.abspath(file), os.stat(file)) for file in self.files)
        return [[path, state.st_size, state.st_mtime_ns] for path, state in states]

    def blocks(self) -> Iterator[Block]:
        """All samples in order."""
        for begin in range(0, self.total, TOGETHER):
            numbers = list(range(begin, min(begin + TOGETHER, self.total)))
            found = [self.record(i) for i in numbers]
            labels = [record.text if record.status == USABLE else "" for record in found]
            status = [STATUS.index(record.status) for record in found]
            yield Block(numbers, labels, status, numbers[-1] + 1)

    def line(self, place: int) -> tuple[str, str]:
        """(name, label) of a record; of a label that is not text what can be shown."""
        record = self.record(place)
        return record.name, record.text

    def where(self, place: int) -> str:
        """`store/name` of a record."""
        return os.path.join(self.path, self.line(place)[0])


def _require(path: str, what: str, name: str) -> Any:
    """Imports a store's module; a UserError that says how to install it."""
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError:
        install = f"pip install '.[{package}]'"
        raise UserError(f"{path}: {what} needs the package {package}: {install}") from None


def _record_of(label: bytes | None, name: str) -> Record:
    if label is None:
        return Record("", MISSING_LABEL, name)
    try:
        text = label.decode()
    except UnicodeDecodeError:
        return Record(label.decode("utf-8", "replace"), NOT_UTF8, name)
    # A CR remains of a text file's line where the writer removed the LF alone.
    text = text.rstrip("\r\n")[:LONGEST_LABEL]
    return Record(text, LINE_BREAK if "\n" in text else USABLE, name)


class LmdbRecords(Records):
    """The records of an LMDB folder, opened read-only and without its lock."""

    format = "lmdb"

    def __init__(self, path: str) -> None:
        _require(path, "LMDB", "lmdb")
        self._real = os.path.realpath(path)
        super().__init__(path, [os.path.join(path, LMDB_FILE)])
        count = self._get("num-samples")
        if not (count or b"").strip().isdigit():
            raise UserError(
                f"{path}: no number under 'num-samples'; want an LMDB with image-%09d, "
                f"label-%09d and num-samples, as deep-text-recognition-benchmark writes it"
            )
        self.total = int(count or 0)
        entries = _open_lmdb(self._real).stat()["entries"]
        if self.total > entries:
            raise UserError(
                f"{path}: 'num-samples' says {self.total:,}, but there are {entries:,} entries"
            )

    def _get(self, key: str) -> bytes | None:
        import lmdb

        try:
            with _open_lmdb(self._real).begin() as transaction:
                return transaction.get(key.encode())
        except lmdb.Error as error:
            raise UnreadableImage(DAMAGED, os.path.join(self.path, key)) from error

    def record(self, number: int) -> Record:
        """A record without its image."""
        name = f"image-{number + 1:09d}"
        try:
            return _record_of(self._get(f"label-{number + 1:09d}"), name)
        except UnreadableImage:
            return Record("", DAMAGED_RECORD, name)

    def content(self, place: int) -> bytes:
        """An encoded image. Raises UnreadableImage where there is none."""
        key = f"image-{place + 1:09d}"
        if (found := self._get(key)) is None:
            raise UnreadableImage(MISSING, key)
        return found


@functools.cache
def _open_lmdb(path: str) -> Any:
    """The LMDB of a folder by its real path; a process may open each file only once."""
    import lmdb

    try:
        # No readahead: neighbours on disk are not what a shuffled plan asks for next.
        found = lmdb.open(path, readahead=False, readonly=True, lock=False, create=False)
    except lmdb.Error as error:
        raise UserError(f"{path}: cannot be opened as LMDB: {error}") from None
    # Of an incomplete copy: reading a page that is not there kills the process.
    page, pages = found.stat()["psize"], found.info()["last_pgno"] + 1
    data, want = os.path.join(path, LMDB_FILE), pages * page
    size = os.path.getsize(data)
    if size < want - min(SPARE_PAGES, pages // 4) * page:
        found.close()
        raise UserError(f"{data}: cut short: {size:,} of {want:,} bytes are there")
    return found


class ArrayRecords(Records):
    """The records of ArrayRecord shards (of `find_shards`), one shard after the other."""

    format = "array_record"

    def __init__(self, path: str, shards: list[str]) -> None:
        super().__init__(path, shards)
        self._recent: dict[int, Record] = {}
        _require_one_split(path, shards)
        module = _require(path, "ArrayRecord", "array_record.python.array_record_data_source")
        try:
            self._data = module.ArrayRecordDataSource(shards)
        except DAMAGED_ERRORS as error:
            raise UserError(f"{path}: cannot be opened as ArrayRecord: {error}") from None
        self.total = len(self._data)
        first = self._features(0) if self.total else {}
        self._label = next((name for name in LABELS if name in first), "")
        if self.total and not (IMAGE in first and self._label):
            held = ", ".join(sorted(first)) or "no tf.train.Example"
            raise UserError(
                f"{shards[0]}: the first record holds {held}; want the features "
                f"{IMAGE!r} (encoded) and {' or '.join(map(repr, LABELS))} (UTF-8)"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_recent": {}}

    def _features(self, number: int) -> dict[str, bytes]:
        """The byte strings of a record; none where it is damaged."""
        try:
            return bytes_features(self._data[number])
        except DAMAGED_ERRORS:
            return {}

    def _record(self, number: int, features: dict[str, bytes]) -> Record:
        name = features.get(PATH, b"").decode("utf-8", "replace") or f"record-{number}"
        if not features:
            return Record("", DAMAGED_RECORD, name)
        return _record_of(features.get(self._label), name)

    def record(self, number: int) -> Record:
        """A record without its image."""
        return self._recent.get(number) or self._record(number, self._features(number))

    def content(self, place: int) -> bytes:
        """An encoded image. Raises UnreadableImage where there is none."""
        features = self._features(place)
        if len(self._recent) >= RECENT:
            self._recent.clear()
        # Its label, in the same record, is asked for next.
        record = self._recent[place] = self._record(place, features)
        if IMAGE not in features:
            raise UnreadableImage(MISSING if features else DAMAGED, record.name)
        return features[IMAGE]


def find_shards(path: str) -> list[str]:
    """The ArrayRecord shards in a folder, sorted; or those of the split that ends the path."""
    folder, split = (path, "") if os.path.isdir(path) else os.path.split(path)
    if split and os.path.exists(path):
        return []  # an annotation file, maybe among millions of files
    _, _, names = next(os.walk(folder), ("", [], []))  # none of a folder that cannot be listed
    matched = filter(None, map(_SHARD.fullmatch, sorted(names)))
    wanted = (m for m in matched if not split or m[1].rpartition("-")[2] == split)
    return [os.path.join(folder, match[0]) for match in wanted]


def _require_one_split(path: str, shards: list[str]) -> None:
    """Raises UserError where the shards are of several splits, or not all there."""
    numbers: dict[tuple[str, int], set[int]] = {}
    for match in filter(None, map(_SHARD.fullmatch, map(os.path.basename, shards))):
        numbers.setdefault((match[1], int(match[3] or 1)), set()).add(int(match[2] or 0))
    if len(numbers) > 1:
        splits = sorted({name.rpartition("-")[2] for name, _ in numbers})
        raise UserError(
            f"{path}: the shards of several splits ({', '.join(splits)}); "
            f"name one: {os.path.join(path, splits[-1])}"
        )
    ((name, count), there) = next(iter(numbers.items()))
    if missing := sorted(set(range(count)) - there):
        raise UserError(
            f"{path}: shard {missing[0]} of {count} of {name} is missing ({len(there)} are there)"
        )


def bytes_features(record: bytes) -> dict[str, bytes]:
    """The first byte string of each feature of a serialized tf.train.Example.

    An Example is a protocol buffer: Example{1: Features{1: map entry{1: name, 2: Feature}}}, and a
    Feature that holds bytes is Feature{1: BytesList{1: value, ...}}. Numbers are ignored.
    Raises ValueError or LookupError if the record is not an Example.
    """
    found: dict[str, bytes] = {}
    for features in _fields(record, 1):
        for entry in _fields(features, 1):
            (name, *_), (feature, *_) = _fields(entry, 1), _fields(entry, 2)
            for value in (v for values in _fields(feature, 1) for v in _fields(values, 1)):
                found.setdefault(name.decode(), value)
    return found


def _fields(message: bytes, wanted: int) -> list[bytes]:
    """The length-delimited fields with this number."""
    found, at = [], 0

    def varint() -> int:  # 7 bits a byte, the lowest first
        nonlocal at
        value = shift = 0
        while True:
            byte, at = message[at], at + 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    while at < len(message):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            varint()
            continue
        size = varint() if kind == 2 else {1: 8, 5: 4}[kind]
        if kind == 2 and number == wanted:
            found.append(message[at : at + size])
        at += size
    if at != len(message):
        raise ValueError("a field ends after its message")
    return found
