"""A progress bar for work that takes long."""

import sys
from typing import Any

PATIENCE = 2.0  # seconds before anything is shown
EVERY = 30.0  # seconds between lines where there is no terminal to write over


class Progress:
    """Shows on stderr how far a count has come; short work passes in silence.

    Args:
        what: is being counted, as in 'headers read'.
        total: of it.
    """

    def __init__(self, what: str, total: int) -> None:
        self.what = what
        self.total = total
        self._bar: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bar": None}  # a stream cannot be pickled

    def __call__(self, done: int) -> None:
        """`done` of the total are done; the first call starts the clock."""
        if self._bar is None:
            self._bar = _bar(self.what, self.total, done)
        self._bar.total = max(self.total, done)
        self._bar.update(done - self._bar.n)
        if done >= self.total:
            self._bar.close()
            self._bar = None


def _bar(what: str, total: int, initial: int) -> Any:
    from tqdm import tqdm

    class Bar(tqdm):
        monitor_interval = 0  # no thread that watches over the bar

    every = 0.5 if sys.stderr.isatty() else EVERY
    return Bar(desc=what, total=total, initial=initial, delay=PATIENCE, mininterval=every)
