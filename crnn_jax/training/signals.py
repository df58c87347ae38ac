"""SIGTERM and Ctrl-C ask a run to save and stop; a second Ctrl-C leaves at once.

Of several processes JAX's preemption service listens for SIGTERM (`hosts.stop_asked`); a handler of
our own would take its place, so there Ctrl-C is passed on as SIGTERM.
"""

import os
import signal

import jax


class StopRequest:
    """A context in which the two signals set `asked` and nothing else."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        own = (signal.SIGTERM, signal.SIGINT) if jax.process_count() == 1 else (signal.SIGINT,)
        for number in own:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _frame: object) -> None:
        if self.asked and number == signal.SIGINT:
            os._exit(130)  # no clean-up: the user has asked twice, and checkpoints are atomic
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)
        self.asked = True
