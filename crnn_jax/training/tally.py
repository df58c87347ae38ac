"""Sums over the steps since the last log line and counts over the whole run.

Sums are Python floats added in the order of steps and stored in the checkpoint, so that a run that
was stopped between two log lines writes the same line as one that was not.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

SUMS = ("loss_sum", "correct", "count", "infeasible", "pixels", "pixels_real")


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
      failed: samples that could not be read, in all, by reason.
      failed_here: of these, what this process has not yet told the others (not stored).
      seconds: of training, over all processes of the run.
      recent: ids of the samples of the last two batches (for the report; not stored).
    """

    sums: dict[str, float] = dataclasses.field(default_factory=lambda: dict.fromkeys(SUMS, 0.0))
    steps: int = 0
    gradient_norm: float = 0.0
    skipped: int = 0
    skipped_in_row: int = 0
    failed: Counter = dataclasses.field(default_factory=Counter)
    seconds: float = 0.0
    recent: list[list[int]] = dataclasses.field(default_factory=list)
    failed_here: Counter = dataclasses.field(default_factory=Counter)

    def add(self, batch: Mapping[str, Any], metrics: dict[str, Any], max_not_finite: int) -> None:
        """Counts one step.

        Raises:
          NotFinite: `max_not_finite` steps in a row (0: never).
        """
        self.failed_here.update(reason for _, reason in batch["failed"])
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

    def share(self, gather: Callable[[dict], list[dict]]) -> None:
        """Adds what all processes could not read since the last call."""
        for counts in gather(dict(self.failed_here)):
            self.failed.update(counts)
        self.failed_here.clear()

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
            "failed": sum(self.failed.values()),
        }
        self.sums = dict.fromkeys(SUMS, 0.0)
        self.steps, self.gradient_norm = 0, 0.0
        return row

    def to_meta(self) -> dict[str, Any]:
        """JSON values; floats survive JSON exactly."""
        meta = dataclasses.asdict(self) | {"failed": dict(self.failed)}
        del meta["recent"], meta["failed_here"]
        return meta

    @classmethod
    def from_meta(cls, meta: dict[str, Any]) -> "Tally":
        """The opposite of `to_meta`."""
        return cls(**{**meta, "failed": Counter(meta["failed"])})
