"""What a run tells people: first lines, progress, validation, summary."""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from crnn_jax.data.plan import Plan
from crnn_jax.data.source import Reasons, Source, shown_path
from crnn_jax.models import native_library
from crnn_jax.scoring.evaluation import EvaluationResult
from crnn_jax.training.experiment import Experiment
from crnn_jax.training.parallel import Parallel
from crnn_jax.training.state import TrainState
from crnn_jax.training.summaries import duration
from crnn_jax.training.tally import Tally
from crnn_jax.training.workdir import Workdir

# What the numbers of a run depend on.
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "pillow")


class Clock:
    """Splits the time of the loop into waiting for data, saving and the rest."""

    def __init__(self) -> None:
        self._start = self._mark = self._saved = time.perf_counter()
        self._waited = self._spent_saving = 0.0
        self._steps = 0
        self.seconds_a_step = 0.0  # by the last log line

    def wait(self) -> None:
        """A batch is asked for."""
        self._mark = time.perf_counter()

    def work(self) -> None:
        """It has come."""
        self._waited += time.perf_counter() - self._mark
        self._steps += 1

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Around what writes a checkpoint."""
        begun = time.perf_counter()
        yield
        self._spent_saving += time.perf_counter() - begun

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Around a wait for a program, which comes once a shape: no part of the speed."""
        begun = time.perf_counter()
        yield
        self._start += time.perf_counter() - begun

    def pause(self) -> None:
        """Leaves out what passed since the last log line (an evaluation)."""
        self._start, self._steps = time.perf_counter(), 0
        self._waited = self._spent_saving = 0.0

    def since_last(self) -> float:
        """Seconds since the last call."""
        now = time.perf_counter()
        passed, self._saved = now - self._saved, now
        return passed

    def take(self, batch_size: int) -> dict[str, float]:
        """Images a second and the shares of waiting and saving since the last call."""
        passed, steps = max(time.perf_counter() - self._start, 1e-9), max(self._steps, 1)
        self.seconds_a_step = passed / steps
        values = {
            "speed/images_per_second": round(steps * batch_size / passed, 1),
            "speed/waiting": round(self._waited / passed, 4),
            "speed/saving": round(self._spent_saving / passed, 4),
        }
        self.pause()
        return values


def first_lines(experiment: Experiment, parallel: Parallel, variables: Any) -> Iterator[str]:
    """Devices, data by reason, characters, size of the network, shapes."""
    kinds = sorted({d.device_kind for d in parallel.devices})
    dtype, choice = experiment.model.dtype, experiment.config.model.convolution
    line = f"{len(parallel.devices)} x {', '.join(kinds)}, jax {jax.__version__}, "
    line += f"{dtype}, {parallel.mode}"
    on_cpu = parallel.devices[0].platform == "cpu"
    if on_cpu:
        convolution = parallel.convolution(choice)
        line += f", convolutions by {'oneDNN' if convolution == 'onednn' else 'XLA'}"
        if choice == "auto" and native_library.unavailable():
            line += f" ({native_library.unavailable()})"
    yield line
    if on_cpu and dtype == "bfloat16" and not native_library.supports_bfloat16():
        yield "bfloat16: this processor does not multiply it, float32 is faster here"
    yield from source_lines("training", experiment.train, experiment.plan)
    for source in experiment.validation:
        yield from source_lines("validation", source, experiment.evaluation_plan(source))
    size = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    yield f"{experiment.model.name}: {size:,} parameters"
    yield from experiment.describe()


def source_lines(role: str, source: Source, plan: Plan) -> Iterator[str]:
    """How many samples there are, and how many cannot be trained on, by reason."""
    unusable = plan.reasons.total()
    yield f"{role}: {source.name}: {len(source):,} samples, {unusable:,} cannot be trained on"
    for line in plan.reasons.lines():
        yield f"  {line}"
    for line in source.notes.lines():
        yield f"  {line}"


def progress_text(row: dict[str, float], speed: dict[str, float]) -> str:
    """The middle of the progress line."""
    return (
        f"loss {row['train/loss']:.3f}  accuracy {row['train/accuracy']:.3f}  "
        f"{speed['speed/images_per_second']:.0f} images/s  "
        f"waiting for data {100 * speed['speed/waiting']:.0f} %"
    )


def validation_lines(step: int, result: EvaluationResult) -> Iterator[str]:
    """What an evaluation found; a hint while nearly everything reads empty."""
    metrics = result.metrics()
    count = max(metrics["count"], 1)
    empty = metrics["empty"] / count
    yield (
        f"validation at step {step}: accuracy {metrics['accuracy']:.4f} of {metrics['count']}, "
        f"CER {metrics.get('cer', float('nan')):.4f}, empty readings {100 * empty:.1f} %"
    )
    if empty > 0.5:
        yield "  CTC plateau: usual until 20,000-60,000 pictures"
    unread = Reasons()
    for row in result.rows:
        if row.reason is not None:
            unread.add(row.reason, [shown_path(row.path)])
    for line in unread.lines():
        yield f"  counted as wrong: {line}"


def summary(
    experiment: Experiment, state: TrainState, step: int, tally: Tally, best: Any
) -> dict[str, Any]:
    """The contents of summary.json."""
    device = jax.devices()[0]
    return {
        "steps": step,
        "asked_steps": experiment.total_steps,  # more than `steps` after an early stop
        "images": step * experiment.config.batch_size,
        "hours": round(tally.seconds / 3600, 4),
        "best_step": best.step,
        "best_validation": best.metrics,
        "last_validation": best.last,
        "skipped_steps": tally.skipped,
        "failed_samples": tally.failed.to_json(),
        "hardware": f"{jax.device_count()} x {device.device_kind} ({platform.machine()})",
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "weights_sha256": weights_sha256(state.variables),
    }


def weights_sha256(variables: Any) -> str:
    """SHA-256 over names and bytes of all leaves, float32, in the order of their names."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]:
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf, np.float32).tobytes())
    return digest.hexdigest()


def last_lines(values: dict[str, Any], workdir: Workdir) -> Iterator[str]:
    """How a finished run ended."""
    if best := values["best_validation"]:
        yield (f"best at step {values['best_step']}: accuracy {best['accuracy']:.4f}")
    yield f"finished: {values['steps']} steps, {duration(values['hours'] * 3600)}, {workdir.model}"
