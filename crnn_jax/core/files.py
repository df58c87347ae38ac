"""Files that a user names: read, or an error in one line; written whole or not at all.

with whole_file('result.json') as file:  # an existing file stays until all of it is written
    file.write(text)
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from crnn_jax.core.errors import UserError

BOM = b"\xef\xbb\xbf"


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a file for reading bytes. Raises UserError where it cannot be opened."""
    try:
        return open(path, "rb")
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{os.fspath(path)}: cannot be read: {reason}") from error


def user_cache() -> Path:
    """The folder of this package in the user's cache."""
    # Not Path.expanduser: that fails for a user without a home.
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "crnn_jax")


def text_lines(path: str | os.PathLike[str], longest: int) -> Iterator[str]:
    """Lines of a UTF-8 file without their ends (LF or CRLF), byte-order mark or not.

    Only LF ends a line: a form feed or U+2028 may be a character like any other.

    Raises:
        UserError: it cannot be read, or a line is not UTF-8 or of over `longest` bytes.
    """
    name = os.fspath(path)
    with open_file(path) as file:
        most = longest + len(BOM) + len(b"\r\n")
        for number, line in enumerate(iter(lambda: file.readline(most), b""), 1):
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            if number == 1:
                line = line.removeprefix(BOM)
            if len(line) > longest:
                raise UserError(f"{name}:{number}: a line of over {longest:,} bytes")
            try:
                yield line.decode()
            except UnicodeDecodeError:
                raise UserError(f"{name}:{number}: not UTF-8; save it as UTF-8") from None


@contextlib.contextmanager
def whole_file(
    path: str | os.PathLike[str], mode: str = "w", *, errors: str = "strict"
) -> Iterator[IO[Any]]:
    """Opens a file under another name, and renames it into place once all of it is on the disk.

    Text is UTF-8 with LF; `errors` as in `open`. Of a link the target is replaced; a device, or the
    pipe of a shell's `>(...)`, is written directly.

    Raises:
        UserError: it cannot be written.
    """
    name = os.fspath(path)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n", "errors": errors}
    target = os.path.realpath(name)
    special = os.path.exists(name) and not os.path.isfile(name)
    written = name if special else f"{target}.{os.getpid()}.tmp"
    try:
        with open(written, mode, **text) as file:  # type: ignore[call-overload]
            yield file
            if not special:
                file.flush()
                os.fsync(file.fileno())
        if not special:
            os.replace(written, target)
    except OSError as error:
        raise UserError(f"{name}: cannot be written: {error.strerror or error}") from error
    finally:
        if not special and os.path.exists(written):
            os.remove(written)


@contextlib.contextmanager
def locked_folder(folder: Path, flag: str) -> Iterator[None]:
    """Makes the folder that a flag names and locks it; the lock ends with its process.

    Raises:
        UserError: it cannot be made, or another run has locked it.
    """
    import fcntl  # not on Windows, which can still read with a model

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a")
    except OSError as error:
        raise UserError(f"{flag}={folder}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{flag}={folder}: another run is at work in it") from None
        except OSError:
            pass  # some file systems of clusters have no locks
        yield
