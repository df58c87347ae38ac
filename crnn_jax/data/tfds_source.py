"""ArrayRecord shards of tf.train.Example, as TFDS and `python -m crnn_jax.shards` write them.

    words-train.array_record-00000-of-00004    image: encoded, label or text: UTF-8, path: a name

Neither TensorFlow nor TFDS is needed to read them. A folder with the shards of several splits is
named with the split behind it: FOLDER/train.
"""

import bisect
import os
import re
from collections.abc import Iterator
from typing import Any

from crnn_jax.core.errors import UserError
from crnn_jax.core.images import DAMAGED, MISSING, UnreadableImage
from crnn_jax.data.examples import bytes_features
from crnn_jax.data.records import DAMAGED_RECORD, MISSING_LABEL
from crnn_jax.data.source import Reasons

TOGETHER = 256  # records read at once where all are read
RECENT = 4096  # labels kept: more than a batch
Features = dict[str, list[bytes]] | None
IMAGE, LABELS, PATH = "image", ("label", "text"), "path"
RANDOM_ACCESS = "readahead_buffer_size:0,max_parallelism:0"
_SHARD = re.compile(r"(.*?)\.array_?record(?:-(\d+)-of-(\d+))?")


def is_array_record(path: str | os.PathLike[str]) -> bool:
    """Whether a folder, or what comes before a split's name, holds ArrayRecord shards."""
    return bool(_shards(os.fspath(path)))


class ArrayRecords:
    """The records of a folder's shards, one after the other.

    Args:
        path: of the folder, or FOLDER/SPLIT.

    Raises:
        UserError: array_record is not installed; a shard is missing or damaged; several splits;
            the records hold no picture or no label.
    """

    form = "array_record"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.shards = _one_split(self.path, _shards(self.path))
        self._readers: list[Any] = []
        self._recent: dict[int, tuple[bytes | str, str]] = {}
        self._ends: list[int] = []
        for reader in self._open():
            self._ends.append(reader.num_records() + (self._ends[-1] if self._ends else 0))
        self._label = ""
        if len(self):
            first = self._features(self._record(0)) or {}
            known = [name for name in LABELS if name in first]
            if IMAGE not in first or not known:
                held = ", ".join(sorted(first)) or "no tf.train.Example"
                raise UserError(
                    f"{self.shards[0]}: the first record holds {held}; want the features "
                    f"{IMAGE!r} (encoded) and {' or '.join(map(repr, LABELS))} (UTF-8)"
                )
            self._label = known[0]

    def __getstate__(self) -> dict[str, Any]:
        # A worker process opens the shards for itself, when it first reads.
        return {**self.__dict__, "_readers": [], "_recent": {}}

    def _open(self) -> list[Any]:
        if not self._readers:
            self._readers = [_reader(shard) for shard in self.shards]
        return self._readers

    def __len__(self) -> int:
        return self._ends[-1]

    def stamp(self) -> list[Any]:
        """Place, size and time of every shard."""
        stats = [(shard, os.stat(shard)) for shard in self.shards]
        return [[os.path.abspath(s), stat.st_size, stat.st_mtime_ns] for s, stat in stats]

    def labels(self) -> Iterator[bytes | str]:
        """Every label in order; the pictures between them are read too."""
        for reader in self._open():
            size = reader.num_records()
            for begin in range(0, size, TOGETHER):
                end = min(begin + TOGETHER, size)
                try:
                    records = reader.read(begin, end)
                except (RuntimeError, ValueError, IndexError):  # one of them is damaged
                    records = [_read_one(reader, i) for i in range(begin, end)]
                for record in records:
                    yield self._label_of(self._features(record))

    def label(self, number: int) -> bytes | str:
        """One of them."""
        return self._about(number)[0]

    def picture(self, number: int) -> bytes:
        """An encoded picture. Raises UnreadableImage where there is none."""
        features = self._features(self._record(number))
        self._remember(number, features)
        picture = _first(features, IMAGE)
        if picture is None:
            raise UnreadableImage(DAMAGED if features is None else MISSING, self.key(number))
        return picture

    def key(self, number: int) -> str:
        """The path that the annotation wrote; the record's number where there is none."""
        return self._about(number)[1]

    def _about(self, number: int) -> tuple[bytes | str, str]:
        """(label, key) of a record."""
        found = self._recent.get(number)
        return found or self._remember(number, self._features(self._record(number)))

    def _remember(self, number: int, features: Features) -> tuple[bytes | str, str]:
        # Whoever asks for a picture asks for its label next, and it stands in the same record.
        if len(self._recent) >= RECENT:
            self._recent.clear()
        path = _first(features, PATH)
        key = path.decode("utf-8", "replace") if path else f"record-{number}"
        about = self._recent[number] = self._label_of(features), key
        return about

    def _label_of(self, features: Features) -> bytes | str:
        if features is None:
            return DAMAGED_RECORD
        label = _first(features, self._label)
        return MISSING_LABEL if label is None else label

    def _features(self, record: bytes) -> Features:
        """What a record holds; None where it is damaged."""
        try:
            return bytes_features(record) if record else None
        except ValueError:
            return None

    def _record(self, number: int) -> bytes:
        """A record's bytes, none where it cannot be read."""
        shard = bisect.bisect_right(self._ends, number)
        begin = self._ends[shard - 1] if shard else 0
        return _read_one(self._open()[shard], number - begin)

    def lost(self) -> Reasons:
        """Nothing: a shard that is not there stops the start."""
        return Reasons()

    def notes(self) -> Reasons:
        """Nothing."""
        return Reasons()


def _first(features: Features, name: str) -> bytes | None:
    values = (features or {}).get(name)
    return values[0] if values else None


def _read_one(reader: Any, place: int) -> bytes:
    try:
        return reader.read([place])[0]
    except (RuntimeError, ValueError, IndexError):
        return b""


def _reader(shard: str) -> Any:
    try:
        from array_record.python.array_record_module import ArrayRecordReader
    except ImportError:
        raise UserError(
            f"{shard}: ArrayRecord needs the package array_record: pip install array_record, or "
            f"crnn_jax[array_record]"
        ) from None
    try:
        reader = ArrayRecordReader(shard, RANDOM_ACCESS)
        if not reader.ok():
            reader.close()  # tells what is wrong
    except RuntimeError as error:
        raise UserError(f"{shard}: cannot be opened as ArrayRecord: {error}") from None
    return reader


def _shards(path: str) -> list[str]:
    """The shards in a folder, sorted; or those of a split, the last part of the path."""
    folder, split = (path, "") if os.path.isdir(path) else os.path.split(path)
    if split and os.path.exists(path):  # an annotation file; beside it may lie millions of names
        return []
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    matched = [(name, _SHARD.fullmatch(name)) for name in names]
    return [
        os.path.join(folder, name)
        for name, match in matched
        if match and (not split or _split_of(match[1]) == split)
    ]


def _split_of(name: str) -> str:
    """'words-train' -> 'train'."""
    return name.rpartition("-")[2]


def _one_split(path: str, shards: list[str]) -> list[str]:
    """The shards, if they are all there and of one split."""
    numbers: dict[tuple[str, str], set[int]] = {}
    for shard in shards:
        match = _SHARD.fullmatch(os.path.basename(shard))
        assert match is not None
        numbers.setdefault((match[1], match[3] or "1"), set()).add(int(match[2] or 0))
    splits = sorted({_split_of(name) for name, _ in numbers})
    if len(numbers) != 1:
        raise UserError(
            f"{path}: the shards of several splits ({', '.join(splits)}); "
            f"name one: {os.path.join(path, splits[-1])}"
        )
    (name, count), there = next(iter(numbers.items()))
    missing = sorted(set(range(int(count))) - there)
    if missing:
        raise UserError(
            f"{path}: shard {missing[0]} of {int(count)} of {name} is missing "
            f"({len(there)} are there)"
        )
    return shards
