"""LMDB as deep-text-recognition-benchmark and parseq write it.

    num-samples       b'7224612'
    image-000000001   an encoded picture
    label-000000001   its text, UTF-8

Keys count from 1; sets that count from 0 are read too. The file is opened read-only and without
its lock, so that sets on read-only disks can be used and nobody who reads is in another's way.
"""

import contextlib
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

from crnn_jax.core.errors import UserError
from crnn_jax.core.images import MISSING, UnreadableImage
from crnn_jax.data.records import MISSING_LABEL
from crnn_jax.data.source import Reasons

DATA = "data.mdb"
TOGETHER = 10_000  # labels of one transaction
DIGITS = 18  # of a number, at most: no file holds more records
SPARE_PAGES = 16  # a sound file may lack some at its end: freed before they were written
# Touches the first and the last page of everything that is stored.
PROBE = """
import lmdb, sys
with lmdb.open(sys.argv[1], readonly=True, lock=False, create=False) as file:
    with file.begin(buffers=True) as all:
        for _, value in all.cursor():
            bytes(value[:1]), bytes(value[-1:])
"""
BEYOND = "record beyond num-samples, left out"
LOST = "record that num-samples counts and nobody wrote"


def is_lmdb(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds an LMDB."""
    return os.path.isfile(os.path.join(path, DATA))


class LmdbRecords:
    """The records of an LMDB folder.

    Args:
        path: of the folder.

    Raises:
        UserError: lmdb is not installed; the file is damaged, cut short, or of another kind.
    """

    form = "lmdb"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._environment: Any = _shared(self.path)
        # Here, once a run: the workers get a copy of what was looked through.
        if self._environment.lacking and _ends_early(self.path):
            raise UserError(self._environment.lacking)
        with self._transaction() as transaction:
            said = transaction.get(b"num-samples")
            if said is None or not said.strip().isdigit() or len(said) > DIGITS:
                raise UserError(
                    f"{self.path}: no number under 'num-samples'; want an LMDB with image-%09d, "
                    f"label-%09d and num-samples, as deep-text-recognition-benchmark writes it"
                )
            count = int(said)
            highest = _highest(transaction)
            zero = transaction.get(_key("label", 0)) is not None
            entries = transaction.stat()["entries"]
        # One that counts from 0 ends before num-samples; in others a number 0 is a stray record.
        self._first = 0 if zero and highest < count else 1
        end = max(0, highest + 1 - self._first)
        self._length = min(count, end)
        if self._length > entries:
            raise UserError(
                f"{self.path}: 'num-samples' says {count:,} and the last label is number "
                f"{highest:,}, but there are {entries:,} entries"
            )
        self._lost, self._beyond = max(0, count - end), min(max(0, end - count), entries)

    def __getstate__(self) -> dict[str, Any]:
        # A worker process opens the file for itself, when it first reads.
        return {**self.__dict__, "_environment": None}

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Any]:
        """Raises UserError where the file turns out to be damaged."""
        environment = self._open()
        try:
            with environment.begin() as transaction:
                yield transaction
        except _lmdb_error() as error:
            raise UserError(f"{self.path}: damaged: {error}") from None

    def _open(self) -> Any:
        if self._environment is None:
            self._environment = _shared(self.path)
        return self._environment.lmdb

    def __len__(self) -> int:
        return self._length

    def stamp(self) -> list[Any]:
        """Place, size and time of the file."""
        stat = os.stat(os.path.join(self.path, DATA))
        return [os.path.abspath(self.path), stat.st_size, stat.st_mtime_ns]

    def labels(self) -> Iterator[bytes | str]:
        """Every label in order; they lie side by side."""
        for begin in range(0, self._length, TOGETHER):
            numbers = range(begin, min(begin + TOGETHER, self._length))
            # Short transactions: while one is open its thread cannot begin another.
            with self._transaction() as transaction:
                found = [transaction.get(self._key("label", i)) for i in numbers]
            for label in found:
                yield MISSING_LABEL if label is None else label

    def label(self, number: int) -> bytes | str:
        """One of them."""
        found = self._get("label", number)
        return MISSING_LABEL if found is None else found

    def picture(self, number: int) -> bytes:
        """An encoded picture. Raises UnreadableImage where there is none."""
        found = self._get("image", number)
        if found is None:
            raise UnreadableImage(MISSING, self.key(number))
        return found

    def key(self, number: int) -> str:
        """'image-000000001'."""
        return self._key("image", number).decode()

    def lost(self) -> Reasons:
        """What `num-samples` counts beyond the last record."""
        reasons = Reasons()
        reasons.add(LOST, [f"{self.path}: the last is {self.key(self._length - 1)}"], self._lost)
        return reasons

    def notes(self) -> Reasons:
        """Records that `num-samples` does not count."""
        notes = Reasons()
        notes.add(BEYOND, [os.path.join(self.path, self.key(self._length))], self._beyond)
        return notes

    def _key(self, kind: str, number: int) -> bytes:
        return _key(kind, number + self._first)

    def _get(self, kind: str, number: int) -> bytes | None:
        with self._transaction() as transaction:
            return transaction.get(self._key(kind, number))


def _key(kind: str, number: int) -> bytes:
    return b"%s-%09d" % (kind.encode(), number)


def _highest(transaction: Any) -> int:
    """The largest number of any label; -1 where there is none."""
    cursor = transaction.cursor()
    # '.' follows '-': the place behind every label.
    found = cursor.prev() if cursor.set_range(b"label.") else cursor.last()
    kind, _, number = cursor.key().partition(b"-")
    right = found and kind == b"label" and number.isdigit() and len(number) <= DIGITS
    return int(number) if right else -1


def _lmdb_error() -> type[Exception]:
    import lmdb

    return lmdb.Error


class _Environment:
    """An open LMDB: a process may open each file only once.

    Attributes:
        lacking: what to say of a file that lacks pages at its end, should they be in use; or ''.
    """

    def __init__(self, path: str) -> None:
        try:
            import lmdb
        except ImportError:
            raise UserError(
                f"{path}: LMDB needs the package lmdb: pip install lmdb, or crnn_jax[lmdb]"
            ) from None
        try:
            self.lmdb = lmdb.open(
                path,
                readonly=True,
                lock=False,
                create=False,
                readahead=False,  # neighbours on disk are not what a shuffled plan asks for next
            )
        except lmdb.Error as error:
            raise UserError(f"{path}: cannot be opened as LMDB: {error}") from None
        # Reading a page that is not there ends the process without a word.
        page = self.lmdb.stat()["psize"]
        want = (self.lmdb.info()["last_pgno"] + 1) * page
        have = os.path.getsize(os.path.join(path, DATA))
        told = f"{os.path.join(path, DATA)}: cut short: {have:,} of {want:,} bytes are there"
        if have < want - SPARE_PAGES * page:
            self.lmdb.close()
            raise UserError(told)
        self.lacking = told if have < want else ""


_opened: "weakref.WeakValueDictionary[tuple[Any, ...], _Environment]"
_opened = weakref.WeakValueDictionary()
_opening = threading.Lock()


def _shared(path: str) -> _Environment:
    """The environment of a folder, opened once a process (and anew behind a fork)."""
    stat = os.stat(os.path.join(path, DATA))
    key = (os.getpid(), stat.st_dev, stat.st_ino)
    with _opening:
        found = _opened.get(key)
        if found is None:
            found = _opened[key] = _Environment(path)
    return found


def _ends_early(path: str) -> bool:
    """Whether reading all of a file ends the process that does, which here is another one."""
    command = [sys.executable, "-P", "-c", PROBE, path]
    return subprocess.run(command, capture_output=True, check=False).returncode < 0
