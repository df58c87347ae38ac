"""Files that are written whole or not at all: what was there before stays until the last byte is.

with whole_file('result.json') as file:
    file.write(text)
"""

import contextlib
import os
from collections.abc import Iterator
from typing import IO, Any

from crnn_jax.core.errors import UserError


@contextlib.contextmanager
def whole_file(
    path: str | os.PathLike[str], mode: str = "w", *, errors: str = "strict"
) -> Iterator[IO[Any]]:
    """Opens a file under another name, and renames it into place once all of it is on the disk.

    Text is UTF-8 with LF. Behind a link its target is replaced; a device, or the pipe of a shell's
    `>(...)`, is written as it is.

    Args:
        path: of the file.
        mode: 'w', 'wb' or 'w+b'.
        errors: what becomes of text that has no UTF-8, as in `open`.

    Raises:
        UserError: it cannot be written.
    """
    name = os.fspath(path)
    text: dict[str, Any] = (
        {} if "b" in mode else {"encoding": "utf-8", "newline": "\n", "errors": errors}
    )
    unfinished = None
    try:
        if os.path.exists(name) and not os.path.isfile(name):
            with open(name, mode, **text) as file:
                yield file
            return
        there = os.path.realpath(name)
        unfinished = f"{there}.{os.getpid()}.tmp"
        with open(unfinished, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, there)
    except OSError as error:
        raise UserError(f"{name}: cannot be written: {error.strerror or error}") from error
    finally:
        if unfinished is not None and os.path.exists(unfinished):
            os.remove(unfinished)
