"""The lines of an annotation file (or the names of a folder), read again whenever asked.

Millions of paths and labels would take gigabytes as Python strings. The file stays where it is,
mapped into memory; what is kept of a line is the byte at which it begins.
"""

import mmap
import os
import zlib
from collections.abc import Iterator
from typing import Any

from crnn_jax.spec.errors import UserError

BLOCK_BYTES = 4 << 20

PICTURE_ENDINGS = frozenset(
    [".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp"]
    + [".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".tga", ".pcx", ".ico", ".psd"]
)


class Lines:
    """Lines by the byte at which they begin.

    Args:
        path: of the annotation file, or of the folder whose listing `names` is.
        names: UTF-8 lines to use instead of the file's own.

    Raises:
        UserError: no such file, or it cannot be read.
    """

    def __init__(self, path: str, names: bytes | None = None) -> None:
        self.path = path
        self._names = names
        self._buffer: bytes | mmap.mmap = b""
        self._open()

    def _open(self) -> None:
        if self._names is not None:
            self._buffer = self._names
            return
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_size:  # nothing cannot be mapped
                    self._buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise UserError(f"{self.path}: no annotation file: {error.strerror}") from None

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps the file anew.
        return {"path": self.path, "_names": self._names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._buffer = b""
        self._open()

    def stamp(self) -> list[Any]:
        """What the file was when it was opened: another stamp, other lines."""
        if self._names is not None:
            return [os.path.abspath(self.path), len(self._names), zlib.crc32(self._names)]
        stat = os.stat(self.path)
        return [os.path.abspath(self.path), stat.st_size, stat.st_mtime_ns]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self._buffer)

    @property
    def start(self) -> int:
        """The first byte behind the byte-order mark."""
        return 3 if self._buffer[:3] == b"\xef\xbb\xbf" else 0

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, bytes]]:
        """The whole file in pieces of whole lines: (byte at which the piece begins, bytes)."""
        at, size = self.start, len(self._buffer)
        while at < size:
            end = self._buffer.find(b"\n", min(at + block_bytes, size) - 1) + 1 or size
            yield at, self._buffer[at:end]
            at = end
            if isinstance(self._buffer, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                # What was read once need not stay in this process's memory.
                whole_pages = at - at % mmap.PAGESIZE
                self._buffer.madvise(mmap.MADV_DONTNEED, 0, whole_pages or mmap.PAGESIZE)

    def line(self, offset: int) -> str:
        """The line that begins at this byte, without its end."""
        end = self._buffer.find(b"\n", offset)
        raw = self._buffer[offset : end if end >= 0 else len(self._buffer)]
        return decoded(raw.removesuffix(b"\r"), self, offset)

    def number(self, offset: int) -> int:
        """The number, from 1, of the line that holds this byte."""
        count, at = 1, 0
        while at < offset:
            piece = self._buffer[at : min(at + BLOCK_BYTES, offset)]
            count += piece.count(b"\n")
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
        (paths relative to the folder, sorted, UTF-8, one a line; the names that cannot be listed
        so: not UTF-8, or with a line break).

    Raises:
        UserError: there is no picture.
    """
    names: list[str] = []
    odd: list[str] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = os.path.relpath(parent, folder)
        for name in files:
            ending = os.path.splitext(name)[1].lower()
            if name.startswith(".") or ending not in PICTURE_ENDINGS:
                continue
            name = name if inside == "." else f"{inside}/{name}"
            right = "\n" not in name and "\r" not in name and _is_utf8(name)
            (names if right else odd).append(name)
    if not names:
        raise UserError(f"{folder}: no pictures in this folder")
    return "\n".join(sorted(names)).encode(), sorted(odd)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
