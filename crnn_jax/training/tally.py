"""Sums over the steps since the last log line and counts over the whole run.

Sums are Python floats added in the order of steps and stored in the checkpoint, so that a run that
was stopped between two log lines writes the same line as one that was not.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from crnn_jax.core.errors import UserError
from crnn_jax.data.source import Reasons, shown_path

SUMS = ("loss_sum", "correct", "count", "infeasible", "pixels", "pixels_real")


EMPTY_STEPS = 10  # in a row: one batch may hold a single picture, ten tell of a disk that is gone


class NothingRead(UserError):
    """No picture could be read for too many steps in a row."""


class NotFinite(Exception):
    """The gradient was not finite for too many steps in a row."""


@dataclasses.dataclass
class Tally:
    """What the host remembers of a run.

    Attributes:
      sums: of the step's metrics since the last log line.
      steps: since the last log line.
      gradient_norm: sum over these steps.
      skipped, skipped_in_row: steps without a finite gradient, in all and just now.
      failed: samples that could not be read, in all, by reason with examples.
      failed_here: of these, what this process has not yet told the others (not stored).
      empty_in_row: steps just now in which no process could read any picture (not stored).
      seconds: of training, over all processes of the run.
      recent: ids of the samples of the last two batches (for the report; not stored).
    """

    sums: dict[str, float] = dataclasses.field(default_factory=lambda: dict.fromkeys(SUMS, 0.0))
    steps: int = 0
    gradient_norm: float = 0.0
    skipped: int = 0
    skipped_in_row: int = 0
    failed: Reasons = dataclasses.field(default_factory=Reasons)
    seconds: float = 0.0
    recent: list[list[int]] = dataclasses.field(default_factory=list)
    failed_here: Reasons = dataclasses.field(default_factory=Reasons)
    empty_in_row: int = 0

    def add(
        self,
        batch: Mapping[str, Any],
        metrics: dict[str, Any],
        max_not_finite: int,
        name_of: Callable[[int], str] = str,
    ) -> None:
        """Counts one step.

        Args:
          batch: of this process.
          metrics: of the step, over all processes.
          max_not_finite: steps in a row that end the run; 0: never.
          name_of: what people call a sample.

        Raises:
          NotFinite: so many steps in a row.
          NothingRead: EMPTY_STEPS in a row.
        """
        for sample, reason in batch["failed"]:
            self.failed_here.add(reason, map(shown_path, map(name_of, [sample])))
        self.empty_in_row = 0 if metrics["pixels_real"] else self.empty_in_row + 1
        if self.empty_in_row >= EMPTY_STEPS:
            told = "; ".join(self.failed_here.lines())
            raise NothingRead(
                f"no picture could be read in {EMPTY_STEPS} batches one after the other ({told}); "
                "the same command goes on when they are there again"
            )
        self.recent = [*self.recent[-1:], [int(i) for i in batch["id"] if i >= 0]]
        self.steps += 1
        if not metrics["finite"]:
            self.skipped += 1
            self.skipped_in_row += 1
            if max_not_finite and self.skipped_in_row >= max_not_finite:
                raise NotFinite(
                    f"{self.skipped_in_row} steps in a row without a finite gradient; the last "
                    f"two batches held the samples {self.recent}"
                )
            return
        self.skipped_in_row = 0
        self.gradient_norm += float(metrics["gradient_norm"])
        for name in SUMS:
            self.sums[name] += float(metrics[name])

    def share(self, gather: Callable[[dict], list[dict]]) -> list[str]:
        """Adds what all processes could not read since the last call.

        Returns:
          Lines for the log, with the first few of each reason; the others are counted only.
        """
        before = {reason: len(kept) for reason, kept in self.failed.examples.items()}
        for told in gather(self.failed_here.to_json()):
            for reason, found in told.items():
                self.failed.add(reason, found["examples"], found["count"])
        self.failed_here = Reasons()
        return [
            f"left out of its batch: {name}: {reason}"
            for reason, kept in self.failed.examples.items()
            for name in kept[before.get(reason, 0) :]
        ]

    def take(self) -> dict[str, float]:
        """Means over the steps since the last call, and counts of the whole run."""
        sums, count = self.sums, max(self.sums["count"], 1.0)
        row = {
            "loss": sums["loss_sum"] / count,
            "accuracy": sums["correct"] / count,
            "gradient_norm": self.gradient_norm / max(self.steps, 1),
            "padding": 1.0 - sums["pixels_real"] / max(sums["pixels"], 1.0),
            "infeasible": sums["infeasible"],
            "skipped": self.skipped,
            "failed": self.failed.total(),
        }
        self.sums = dict.fromkeys(SUMS, 0.0)
        self.steps, self.gradient_norm = 0, 0.0
        return row

    def to_meta(self) -> dict[str, Any]:
        """JSON values; floats survive JSON exactly."""
        meta = dataclasses.asdict(self) | {"failed": self.failed.to_json()}
        for name in ("recent", "failed_here", "empty_in_row"):
            del meta[name]
        return meta

    @classmethod
    def from_meta(cls, meta: dict[str, Any]) -> "Tally":
        """The opposite of `to_meta`."""
        failed = Reasons()
        for reason, found in meta["failed"].items():
            if isinstance(found, int):  # runs begun before there were examples
                found = {"count": found, "examples": []}
            failed.add(reason, found["examples"], found["count"])
        return cls(**{**meta, "failed": failed})
