"""One line about work that takes long: how far, how fast, how long still."""

import sys
import time
from typing import TextIO

PATIENCE = 2.0  # seconds before anything is said
EVERY = 30.0  # seconds between lines where there is no terminal to write over


class Progress:
    """Tells on stderr how far a count has come; short work passes in silence.

    Args:
        what: is being counted, as in 'headers read'.
        total: of it.
        stream: None is stderr.
    """

    def __init__(self, what: str, total: int, stream: TextIO | None = None) -> None:
        self.what = what
        self.total = total
        self._stream = stream  # stderr is looked up when it is written to: it cannot be pickled
        self._started: float | None = None
        self._first = 0
        self._said = 0.0

    def __call__(self, done: int) -> None:
        """`done` of the total are done; the first call starts the clock."""
        now = time.monotonic()
        self.total = max(self.total, done)  # evaluation also asks for those training leaves out
        if self._started is None:
            self._started, self._first, self._said = now, done, now
            return
        stream = self._stream or sys.stderr
        terminal = stream.isatty()
        last = done >= self.total
        if now - self._started < PATIENCE or (
            not last and now - self._said < (0.5 if terminal else EVERY)
        ):
            return
        speed = (done - self._first) / max(now - self._started, 1e-9)
        left = (self.total - done) / speed if speed else 0.0
        told = f"{left:.0f} s left" if left < 100 else f"{left / 60:.0f} min left"
        line = f"{self.what}: {done:,} of {self.total:,}, {speed:,.0f}/s, {told}"
        end = "\n" if last or not terminal else ""
        stream.write(f"\r{line}\x1b[K{end}" if terminal else f"{line}{end}")
        stream.flush()
        self._said = now
