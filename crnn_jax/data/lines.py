"""The lines of an annotation file (or the names of a folder), read again whenever asked.

Millions of paths and labels would take gigabytes as Python strings. The file stays where it is;
what is kept of a line is the byte at which it begins. A file that changes while it is in use would
give other lines for the same bytes: that is told, and ends the work.
"""

import os
import stat
import weakref
import zlib
from collections.abc import Iterator
from typing import Any

from crnn_jax.core.errors import UserError

BLOCK_BYTES = 4 << 20
LINE_BYTES = 256  # read at first where one line is asked for
LONGEST_LINE = 4 << 20  # bytes; whoever has longer ones has another kind of file

PICTURE_ENDINGS = frozenset(
    [".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp"]
    + [".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".tga", ".pcx", ".ico", ".psd"]
)


class Lines:
    """Lines by the byte at which they begin.

    Args:
        path: of the annotation file, or of the folder whose listing `names` is.
        names: UTF-8 lines to use instead of the file's own.

    Attributes:
        end: what ends a line: LF (a CR before it is the parser's to drop), or CR in a file
            without any LF, as old Macs wrote them.

    Raises:
        UserError: no such file, it is none, or it cannot be read.
    """

    def __init__(self, path: str, names: bytes | None = None) -> None:
        self.path = path
        self._names = names
        self._file: int | None = None
        self._stamp: list[int] = [] if names is None else [len(names), zlib.crc32(names)]
        if names is None:
            self._open()
        head = self._read(0, LONGEST_LINE)
        self.end = b"\r" if b"\r" in head and b"\n" not in head else b"\n"

    def _open(self) -> int:
        # Reads at a place, not a mapping: of a mapped file that somebody cuts short the next line
        # would end the process without a word.
        try:
            # A named pipe without a writer would be waited for.
            file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise UserError(f"{self.path}: no annotation file: {error.strerror}") from None
        weakref.finalize(self, os.close, file)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{self.path}: is no file; want an annotation file, or a folder")
        self._stamp = self._stamp or [status.st_size, status.st_mtime_ns]
        self._file = file
        return file

    def __getstate__(self) -> dict[str, Any]:
        # A worker process opens the file anew, and knows what it was.
        return {**self.__dict__, "_file": None}

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._stamp[0]

    def stamp(self) -> list[Any]:
        """What the file was when it was opened: another stamp, other lines."""
        return [os.path.abspath(self.path), *self._stamp]

    def require_unchanged(self) -> None:
        """Raises UserError where the file is not any more what it was when it was opened."""
        if self._names is not None:
            return
        status = os.fstat(self._open() if self._file is None else self._file)
        if [status.st_size, status.st_mtime_ns] != self._stamp:
            raise UserError(
                f"{self.path}: was changed while it was in use; run the same command again"
            )

    def _read(self, at: int, size: int) -> bytes:
        """Exactly these bytes, fewer only at the end of the file."""
        if self._names is not None:
            return self._names[at : at + size]
        file = self._open() if self._file is None else self._file
        size = max(0, min(size, self.size - at))
        try:
            found = os.pread(file, size, at)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read: {error.strerror}") from None
        if len(found) < size:
            self.require_unchanged()
            raise UserError(f"{self.path}: ends before the {self.size:,} bytes it should have")
        return found

    @property
    def start(self) -> int:
        """The first byte behind the byte-order mark."""
        return 3 if self._read(0, 3) == b"\xef\xbb\xbf" else 0

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, bytes]]:
        """The whole file in pieces of whole lines: (byte at which the piece begins, bytes).

        Raises:
            UserError: a line longer than LONGEST_LINE.
        """
        at = self.start
        while at < self.size:
            block = self._read(at, block_bytes)
            while self.end not in block and at + len(block) < self.size:
                if len(block) > LONGEST_LINE:
                    raise UserError(
                        f"{self.where(at)}: a line of more than {LONGEST_LINE:,} bytes; "
                        f"want a text file with a path and a label a line"
                    )
                block += self._read(at + len(block), block_bytes)
            if at + len(block) < self.size:
                block = block[: block.rfind(self.end) + 1]
            yield at, block
            at += len(block)

    def texts(self, block_bytes: int = BLOCK_BYTES) -> Iterator[str]:
        """All lines without their ends, one after the other, blank ones left out.

        Undecodable bytes are replaced: they are told, with their line, by who indexes the file.
        """
        for _, block in self.blocks(block_bytes):
            for line in block.decode("utf-8", "replace").split(self.end.decode()):
                if line and not line.isspace():
                    yield line.removesuffix("\r")

    def line(self, offset: int) -> str:
        """The line that begins at this byte, without its end.

        Raises:
            UserError: the file was changed since it was opened.
        """
        size = LINE_BYTES
        while (end := (raw := self._read(offset, size)).find(self.end)) < 0 and len(raw) == size:
            size *= 16
        self.require_unchanged()
        raw = raw if end < 0 else raw[:end]
        return decoded(raw.removesuffix(b"\r"), self, offset)

    def number(self, offset: int) -> int:
        """The number, from 1, of the line that holds this byte."""
        count, at = 1, 0
        while at < offset:
            piece = self._read(at, min(BLOCK_BYTES, offset - at))
            count += piece.count(self.end)
            at += len(piece)
        return count

    def where(self, offset: int) -> str:
        """`file:line` for messages; the file's name where a folder was listed."""
        if self._names is not None:
            return os.path.join(self.path, self.line(offset))
        return f"{self.path}:{self.number(offset)}"


def decoded(raw: bytes, lines: Lines, offset: int) -> str:
    """The text of a piece of the file that begins at byte `offset`.

    Raises:
        UserError: naming the line that is not UTF-8.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        number = lines.number(offset + error.start)
        raise UserError(
            f"{lines.path}:{number}: not UTF-8 (byte 0x{raw[error.start]:02x}); "
            f"save the file as UTF-8"
        ) from None


def list_pictures(folder: str) -> tuple[bytes, list[str]]:
    """Names of all pictures below a folder, as lines.

    Args:
        folder: path of an existing folder; folders inside it are walked too, hidden ones not.

    Returns:
        (paths relative to the folder, sorted, UTF-8, one a line; what is left out: names that are
        not UTF-8 or hold a line break, folders behind a link, which may lead anywhere or in a
        circle, and folders that cannot be listed).

    Raises:
        UserError: there is no picture, or the folder cannot be listed.
    """
    names: list[str] = []
    odd: list[str] = []

    def unlisted(error: OSError) -> None:
        if error.filename == folder:
            raise UserError(f"{folder}: cannot be listed: {error.strerror}") from None
        odd.append(os.path.relpath(error.filename, folder))

    for parent, folders, files in os.walk(folder, onerror=unlisted):
        inside = os.path.relpath(parent, folder)
        before = "" if inside == "." else f"{inside}/"
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        odd += (before + name for name in folders if os.path.islink(os.path.join(parent, name)))
        for name in files:
            ending = os.path.splitext(name)[1].lower()
            if name.startswith(".") or ending not in PICTURE_ENDINGS:
                continue
            right = "\n" not in name and "\r" not in name and _is_utf8(name)
            (names if right else odd).append(before + name)
    if not names:
        raise UserError(f"{folder}: no pictures in this folder")
    return "\n".join(sorted(names)).encode(), sorted(odd)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
