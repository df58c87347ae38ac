"""Files that a user names, whatever they turn out to be: read within bounds, or told in one line.

A device never ends, a pipe that nobody writes to never begins, and a line may be as long as the
disk. Readers state how much makes sense for them and ask here for no more.
"""

import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from crnn_jax.core.errors import UserError

BOM = b"\xef\xbb\xbf"


def open_file(path: str | os.PathLike[str], missing: str = "cannot be read") -> BinaryIO:
    """Opens a file, or the pipe of a shell's `<(...)`, for reading.

    Args:
        path: of the file.
        missing: what errors say of one that cannot be opened, ahead of the reason.

    Raises:
        UserError: it cannot be opened, or is a device.
    """
    name = os.fspath(path)
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
        if kind == stat.S_IFIFO:
            # Opened so, a pipe that nobody writes to is empty; else it would be waited for.
            pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            os.set_blocking(pipe, True)
            return open(pipe, "rb")
        if kind in (stat.S_IFREG, stat.S_IFDIR):
            return open(path, "rb")  # of a folder it says that it is one
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name}: {missing}: {reason}") from error
    raise UserError(f"{name}: {missing}: a device, not a file")


def read_bytes(file: BinaryIO, name: str, size: int) -> bytes:
    """The next bytes, fewer where the file ends.

    Raises:
        UserError: the disk fails.
    """
    try:
        return file.read(size)
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror or error}") from error


def text_lines(
    path: str | os.PathLike[str], longest: int, missing: str = "cannot be read"
) -> Iterator[str]:
    """Lines of a UTF-8 file without their ends (LF or CRLF), byte-order mark or not.

    Only LF ends a line: a form feed or U+2028 may be a character like any other.

    Args:
        path: of the file; one line after the other is read.
        longest: bytes of a line.
        missing: as in `open_file`.

    Raises:
        UserError: it cannot be read; naming the line, where one is longer or not UTF-8.
    """
    name = os.fspath(path)
    number = 0
    with open_file(path, missing) as file:
        while line := _read_line(file, name, longest + 2):
            number += 1
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            if number == 1:
                line = line.removeprefix(BOM)
            if len(line) > longest:
                raise UserError(f"{name}:{number}: a line of over {longest:,} bytes")
            try:
                text = line.decode()
            except UnicodeDecodeError:
                raise UserError(f"{name}:{number}: not UTF-8; save it as UTF-8") from None
            yield text


def _read_line(file: BinaryIO, name: str, size: int) -> bytes:
    try:
        return file.readline(size)
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror or error}") from error
