"""What a run writes while it goes: metrics.jsonl, TensorBoard scalars, one progress line."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import jax
import numpy as np

from crnn_jax.core.files import whole_file

# Columns that differ between two runs of the same numbers.
TIMES = ("time", "speed/images_per_second", "speed/waiting", "speed/saving")


class Summaries:
    """Appends rows {'step': .., name: value} to metrics.jsonl and TensorBoard, each where given.

    A resumed run cuts both back to its checkpoint's step, so that the files end as those of a run
    that was never stopped.
    """

    def __init__(self, metrics: Path | None, tensorboard: Path | None, *, from_step: int):
        self._file: BinaryIO | None = None
        self._board = None
        self._waiting: list[str] = []  # rows that a full disk has not taken
        if metrics is not None:
            _cut_back(metrics, from_step)
            self._file = metrics.open("ab", buffering=0)
        if tensorboard is not None:
            from tensorboardX import SummaryWriter  # half a second, and no TensorFlow

            self._board = SummaryWriter(str(tensorboard), purge_step=from_step + 1)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """One row; names with a `/` form groups in TensorBoard."""
        row = {"step": step, "time": round(time.time(), 3), **values}
        if self._file:
            self._waiting.append(json.dumps(row) + "\n")
            self._append(self._file)
        if self._board:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(name, value, step)

    def _append(self, file: BinaryIO) -> None:
        """Writes what waits, whole or not at all."""
        end, data = os.fstat(file.fileno()).st_size, "".join(self._waiting).encode()
        try:
            whole = file.write(data) == len(data)  # the last bytes of a disk are taken in silence
        except OSError:
            whole = False
        if whole:
            self._waiting.clear()
        else:
            file.truncate(end)

    @property
    def shows(self) -> bool:
        """Whether there is a TensorBoard to show pictures and histograms in."""
        return self._board is not None

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """uint8 [h w 3] for TensorBoard."""
        if self._board:
            self._board.add_image(name, image, step, dataformats="HWC")

    def histograms(self, step: int, variables: Any) -> None:
        """The distribution of every array for TensorBoard."""
        if self._board:
            for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
                name = "/".join(key.key for key in path)
                self._board.add_histogram(name, np.asarray(leaf, np.float32), step)

    def close(self) -> None:
        """Closes both files."""
        if self._file:
            self._file.close()
        if self._board:
            self._board.close()


def _cut_back(path: Path, step: int) -> None:
    """Drops rows after `step`, and what is none: one not written to its end, a lost block."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, TypeError, KeyError):
            continue
    with whole_file(path) as file:
        file.writelines(kept)


class Progress:
    """The progress line: rewritten in place on a terminal, one line a call elsewhere."""

    def __init__(self, total_steps: int, stream: TextIO | None = None):
        self.total = total_steps
        self.stream = stream or sys.stderr
        self._open = False

    def show(self, step: int, text: str, seconds_left: float) -> None:
        """The line that the next one takes the place of."""
        line = f"step {step}/{self.total}  {text}  {duration(seconds_left)} left"
        if self.stream.isatty():
            self.stream.write("\r\x1b[K" + line)
            self._open = True
        else:
            self.stream.write(line + "\n")
        self.stream.flush()

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._open:
            self.stream.write("\n")
            self._open = False
        self.stream.write(text + "\n")
        self.stream.flush()


def duration(seconds: float) -> str:
    """'1:02:03' or '02:03'."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"
