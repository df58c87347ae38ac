"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """A mistake of the user, told in one line: where, what is wrong, what would be right.

    Commands print it without a traceback and exit with code 2. A bug in the program is any
    other exception and keeps its traceback.
    """
