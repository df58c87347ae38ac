"""A trace of some steps by JAX's profiler, for TensorBoard's profile tab or Perfetto."""

from collections.abc import Sequence
from pathlib import Path

import jax

from crnn_jax.core.errors import UserError


class Profile:
    """Records the steps [from, to) into a folder.

    Args:
      steps: (from, to), counted from 0; () for none.
      folder: where `plugins/profile/` is to be written.
    """

    def __init__(self, steps: Sequence[int], folder: Path):
        if len(steps) not in (0, 2) or (steps and not 0 <= steps[0] < steps[1]):
            raise UserError(f"config.log.profile={tuple(steps)}: want (from, to), or ()")
        self._steps, self._folder = tuple(steps), folder
        self._running = False

    def before(self, step: int) -> None:
        """A step is about to be taken."""
        if self._steps and step == self._steps[0]:
            jax.profiler.start_trace(str(self._folder))
            self._running = True
        elif self._steps and step == self._steps[1]:
            self.stop()

    def stop(self) -> None:
        """Writes what was recorded."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
