"""What a run counts: sums since the last log line, failures, the best evaluation.

Checkpoints hold all of it. Sums are Python floats added in the order of steps, so that a run that
was stopped between two log lines writes the same line as one that was not.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from crnn_jax.core.errors import UserError, shown_path
from crnn_jax.data.source import Reasons

# Of a step's metrics: loss, correctly read samples, usable samples, those without an alignment,
# columns, and columns that are not padding.
SUMS = ("loss_sum", "correct", "count", "infeasible", "pixels", "pixels_real")
EMPTY_STEPS = 10  # in a row: a small batch may hold damaged images only, ten mean a lost disk


class NothingRead(UserError):
    """No image could be read for too many steps in a row."""


class NotFinite(Exception):
    """The gradient was not finite for too many steps in a row."""


@dataclasses.dataclass
class RunMetrics:
    """Sums and counts of the training steps.

    Attributes:
      sums, gradient_norm, steps: over the steps since the last log line that were not skipped.
      skipped, skipped_in_row: steps without a finite gradient, in all and just now.
      failed: samples that could not be read, of all processes.
      seconds: of training, over all starts of the run.
    """

    sums: dict[str, float] = dataclasses.field(default_factory=lambda: dict.fromkeys(SUMS, 0.0))
    steps: int = 0
    gradient_norm: float = 0.0
    skipped: int = 0
    skipped_in_row: int = 0
    failed: Reasons = dataclasses.field(default_factory=Reasons)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        # Not stored: failures of this process alone, and ids of the last two batches.
        self.failed_here = Reasons()
        self.empty_in_row = 0
        self.recent: list[list[int]] = []

    def add(
        self,
        batch: Mapping[str, Any],
        metrics: Mapping[str, Any],
        max_nonfinite_steps: int,
        name_of: Callable[[int], str],
    ) -> None:
        """Counts one step; `batch` is this process's, `name_of` gives a sample's path.

        Raises:
          NothingRead: EMPTY_STEPS steps in a row read no image.
          NotFinite: `max_nonfinite_steps` steps in a row (0: never) had no finite gradient.
        """
        for sample, reason in batch["failed"]:
            self.failed_here.add(reason, [shown_path(name_of(sample))])
        self.empty_in_row = 0 if metrics["pixels_real"] else self.empty_in_row + 1
        if self.empty_in_row >= EMPTY_STEPS:
            raise NothingRead(
                f"no image could be read in {EMPTY_STEPS} batches one after the other "
                f"({'; '.join(self.failed_here.lines())}); the same command resumes the run"
            )
        self.recent = [*self.recent[-1:], [int(i) for i in batch["id"] if i >= 0]]
        if not metrics["finite"]:
            self.skipped += 1
            self.skipped_in_row += 1
            if max_nonfinite_steps and self.skipped_in_row >= max_nonfinite_steps:
                raise NotFinite(
                    f"{self.skipped_in_row} steps in a row without a finite gradient; the last "
                    f"two batches held the samples {self.recent}"
                )
            return
        self.skipped_in_row = 0
        self.steps += 1
        self.gradient_norm += float(metrics["gradient_norm"])
        for name in SUMS:
            self.sums[name] += float(metrics[name])

    def share(self, gather: Callable[[dict], list[dict]]) -> list[str]:
        """Adds all processes' failures since the last call; lines about the first few."""
        before = {reason: len(examples) for reason, examples in self.failed.examples.items()}
        for failed in gather(self.failed_here.to_json()):
            for reason, found in failed.items():
                self.failed.add(reason, found["examples"], found["count"])
        self.failed_here = Reasons()
        return [
            f"left out of its batch: {name}: {reason}"
            for reason, examples in self.failed.examples.items()
            for name in examples[before.get(reason, 0) :]
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
        """JSON values for the checkpoint; floats survive JSON exactly."""
        return dataclasses.asdict(self) | {"failed": self.failed.to_json()}

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> "RunMetrics":
        """The opposite of `to_meta`."""
        failed = Reasons()
        for reason, found in meta["failed"].items():
            if isinstance(found, int):  # runs begun before there were examples
                found = {"count": found, "examples": []}
            failed.add(reason, found["examples"], found["count"])
        return cls(**{**meta, "failed": failed})


@dataclasses.dataclass
class BestEvaluation:
    """The best evaluation: higher exact accuracy, then lower CER, then later.

    Attributes:
      step, metrics: of the best.
      last: metrics of the newest.
      since: evaluations without a better one.
    """

    step: int = 0
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    last: dict[str, float] = dataclasses.field(default_factory=dict)
    since: int = 0

    def offer(self, step: int, metrics: dict[str, float]) -> bool:
        """Notes an evaluation; whether it is at least as good as the best."""
        self.last = dict(metrics)
        rank, best = _rank(metrics), _rank(self.metrics) if self.metrics else ()
        self.since = 0 if rank > best else self.since + 1
        if rank >= best:
            self.step, self.metrics = step, dict(metrics)
        return rank >= best

    def exhausted(self, patience: int) -> bool:
        """Whether `patience` evaluations in a row (0: never) brought no better one."""
        return bool(patience) and self.since >= patience


def _rank(metrics: dict[str, float]) -> tuple[float, float]:
    return metrics["accuracy"], -metrics.get("cer", 0.0)
