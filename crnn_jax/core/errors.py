"""The exception for a user's mistake, and the errors of a disk that any write may meet."""

import errno

LONGEST = 1000  # characters; a file may hold names of megabytes

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # never a bug


class UserError(Exception):
    """A user's mistake in one line: where, what is wrong, what would be correct.

    Commands print it without a traceback and exit with code 2. Any other exception is a bug and
    keeps its traceback.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.splitlines())
        if len(line) > LONGEST:  # the end says what is wrong
            line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
        super().__init__(line)


def shown_path(path: str) -> str:
    """A path in a message: in quotes if it could not be seen or would change the terminal."""
    return path if path.isprintable() else repr(path)


def shown(line: str) -> str:
    """A line in quotes, shortened for a message."""
    return repr(line if len(line) <= 60 else line[:57] + "...")
