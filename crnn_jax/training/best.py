"""The best evaluation so far: its checkpoint and its model file."""

from typing import Any

import jax
import numpy as np

from crnn_jax.core.model_file import save_model
from crnn_jax.training import hosts
from crnn_jax.training.checkpoints import Checkpoints
from crnn_jax.training.state import TrainState
from crnn_jax.training.workdir import Workdir


class BestSoFar:
    """Higher exact accuracy, then lower CER, then later: of equals the one that was trained longer.

    A small validation set knows few values, and is soon read without a mistake.
    """

    def __init__(self, workdir: Workdir):
        self.workdir = workdir
        self.checkpoints = Checkpoints(workdir.best, keep=1)
        self.step = 0
        self.metrics: dict[str, float] = {}
        self.last: dict[str, float] = {}  # metrics of the newest evaluation, good or not
        self.since = 0  # evaluations without a better one

    def offer(self, step: int, metrics: dict[str, float]) -> bool:
        """Takes note of an evaluation; whether it is the best, or as good."""
        self.last = dict(metrics)
        rank, best = _rank(metrics), _rank(self.metrics) if self.metrics else ()
        self.since = 0 if rank > best else self.since + 1
        if rank >= best:
            self.step, self.metrics = step, dict(metrics)
        return rank >= best

    def exhausted(self, patience: int) -> bool:
        """Whether `patience` evaluations in a row (0: any number) brought nothing better."""
        return bool(patience) and self.since >= patience

    def save(self, step: int, state: TrainState, metadata: dict[str, Any]) -> None:
        """Checkpoint and model file of the best state."""
        meta = {"model": metadata, "metrics": self.metrics}
        self.checkpoints.save(step, state, meta)
        self.save_model(state, metadata)

    def save_model(self, state: TrainState, metadata: dict[str, Any]) -> None:
        """The workdir's model file alone."""
        if not hosts.first():
            return
        variables = jax.tree.map(np.asarray, state.variables)
        save_model(self.workdir.model, variables, metadata)

    def to_meta(self) -> dict[str, Any]:
        """JSON values for the checkpoint."""
        return {
            "step": self.step,
            "metrics": self.metrics,
            "last": self.last,
            "since": self.since,
        }

    def from_meta(self, meta: dict[str, Any]) -> None:
        """Takes back what `to_meta` gave."""
        self.step, self.metrics = meta["step"], meta["metrics"]
        self.last, self.since = meta["last"], meta["since"]


def _rank(metrics: dict[str, float]) -> tuple[float, float]:
    return metrics["accuracy"], -metrics.get("cer", 0.0)
