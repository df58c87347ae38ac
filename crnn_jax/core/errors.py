"""The one exception that stands for a user's mistake, and what a disk may answer to any write."""

import errno

LONGEST = 1000  # characters; a file may hold names of megabytes

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # never a bug


class UserError(Exception):
    """A mistake of the user, told in one line: where, what is wrong, what would be right.

    Commands print it without a traceback and exit with code 2. A bug in the program is any
    other exception and keeps its traceback.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.splitlines())
        if len(line) > LONGEST:  # what was wrong stands at the end
            line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
        super().__init__(line)
