"""What a run writes and prints: metrics.jsonl, TensorBoard, the progress line, summary.json."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from crnn_jax.core.errors import shown_path
from crnn_jax.core.files import whole_file
from crnn_jax.core.geometry import num_frames
from crnn_jax.data.source import Reasons
from crnn_jax.models import native_library
from crnn_jax.scoring.evaluation import EvaluationResult
from crnn_jax.training.experiment import Experiment
from crnn_jax.training.metrics import BestEvaluation, RunMetrics
from crnn_jax.training.parallel import Parallel, is_first
from crnn_jax.training.state import TrainState

# The columns that differ between two equal runs.
TIMES = ("time", *(f"speed/{n}" for n in ("images_per_second", "waiting", "saving", "compiling")))
# The packages that a run's numbers depend on.
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "pillow")
ROW, COLUMN, MARGIN = 64, 320, 6  # pixels of the sheet of validation images
INK, RIGHT, WRONG = (30, 30, 30), (0, 110, 60), (190, 20, 40)


class MetricsWriter:
    """Appends rows {'step': .., name: value} to metrics.jsonl and TensorBoard, in one process.

    A resumed run cuts both back to its checkpoint's step, so that they end like those of a run that
    was never stopped.

    Attributes:
      board: TensorBoard's writer, or None.
    """

    def __init__(self, metrics: Path, tensorboard: Path | None, *, from_step: int):
        self._file = self.board = None
        self._waiting: list[str] = []  # rows that did not fit on a full disk
        if not is_first():
            return
        _cut_back(metrics, from_step)
        self._file = metrics.open("ab", buffering=0)
        if tensorboard is not None:
            from tensorboardX import SummaryWriter  # half a second, and no TensorFlow

            self.board = SummaryWriter(str(tensorboard), purge_step=from_step + 1)
            # Its thread would die on a full disk, and `add_scalar` then wait for it without end.
            events = self.board.file_writer.event_writer._ev_writer
            for name in ("write_event", "flush", "close"):
                setattr(events, name, _without_os_errors(getattr(events, name)))

    def write(self, step: int, values: dict[str, Any]) -> None:
        """One row; names with a `/` form groups in TensorBoard."""
        row = {"step": step, "time": round(time.time(), 3), **values}
        if self._file:
            self._waiting.append(json.dumps(row) + "\n")
            # Whole or not at all: a disk may take the first bytes of a row without an error.
            end, data = os.fstat(self._file.fileno()).st_size, "".join(self._waiting).encode()
            with contextlib.suppress(OSError):
                if self._file.write(data) == len(data):
                    self._waiting.clear()
            if self._waiting:
                self._file.truncate(end)
        if self.board:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self.board.add_scalar(name, value, step)

    def histograms(self, step: int, variables: Any) -> None:
        """Writes the distribution of every array to TensorBoard."""
        if self.board:
            for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
                name = "/".join(key.key for key in path)
                self.board.add_histogram(name, np.asarray(leaf, np.float32), step)

    def close(self) -> None:
        """Closes both."""
        for file in filter(None, (self._file, self.board)):
            file.close()


def _without_os_errors(call: Callable[..., Any]) -> Callable[..., Any]:
    def quiet(*arguments: Any) -> Any:
        with contextlib.suppress(OSError):
            return call(*arguments)

    return quiet


def _cut_back(path: Path, step: int) -> None:
    """Drops rows after `step`, and lines that are damaged."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
    with whole_file(path) as file:
        file.writelines(kept)


def say(*lines: str, stays: bool = True) -> None:
    """Prints on the first process's stderr; on a terminal, what does not stay is overwritten."""
    terminal = sys.stderr.isatty()
    with contextlib.suppress(OSError):  # a full disk or a closed pipe does not end a run
        for line in lines if is_first() else ():
            sys.stderr.write("\x1b[K" * terminal + line + ("\n" if stays or not terminal else "\r"))
        sys.stderr.flush()


class Clock:
    """Where the loop's time goes since the last log line.

    Attributes:
      steps: since the last log line, without those that compiled; the loop counts them.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forgets all time until now."""
        self._start, self.steps = time.perf_counter(), 0
        self._spent: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def spend(self, on: str) -> Iterator[None]:
        """Measures its block, without the blocks inside it, as TIMES say or 'evaluating'."""
        begun, before = time.perf_counter(), sum(self._spent.values())
        yield
        inside = sum(self._spent.values()) - before
        self._spent[on] += time.perf_counter() - begun - inside

    def take(self, batch_size: int) -> dict[str, float]:
        """The row's `speed/`: of the time without compiling and evaluating, but for `compiling`.

        That is in seconds. There is no images_per_second where every step compiled.
        """
        passed = time.perf_counter() - self._start
        passed = max(passed - self._spent["compiling"] - self._spent["evaluating"], 1e-9)
        values = {
            "speed/waiting": round(self._spent["waiting"] / passed, 4),
            "speed/saving": round(self._spent["saving"] / passed, 4),
            "speed/compiling": round(self._spent["compiling"], 2),
        }
        if self.steps:
            values["speed/images_per_second"] = round(self.steps * batch_size / passed, 1)
        self.restart()
        return values


def progress_line(step: int, total: int, row: Mapping[str, float], batch_size: int) -> str:
    """A row of metrics.jsonl for people; the time left is that of the steps alone."""
    line = (
        f"step {step}/{total}  loss {row['train/loss']:.3f}  accuracy {row['train/accuracy']:.3f}"
    )
    if speed := row.get("speed/images_per_second"):
        left = tqdm.format_interval((total - step) * batch_size / speed)
        line += f"  {speed:.0f} images/s  waiting for data {100 * row['speed/waiting']:.0f} %"
        line += f"  {left} of training left"
    return line


def first_lines(experiment: Experiment, parallel: Parallel, variables: Any) -> Iterator[str]:
    """Devices, data by reason, characters, size of the network, shapes."""
    config, rule, plan = experiment.config, experiment.preprocessing, experiment.plan
    kinds = sorted({d.device_kind for d in parallel.devices})
    dtype, choice = experiment.model.dtype, config.model.convolution
    line = f"{len(parallel.devices)} x {', '.join(kinds)}, jax {jax.__version__}, "
    line += f"{dtype}, {parallel.mode}"
    on_cpu = parallel.devices[0].platform == "cpu"
    if on_cpu:
        convolution = parallel.convolution(choice)
        line += f", convolutions by {'oneDNN' if convolution == 'onednn' else 'XLA'}"
        if choice == "auto" and native_library.unavailable():
            line += f" ({native_library.unavailable()})"
    yield line
    if on_cpu and dtype == "bfloat16" and not native_library.prefers_bfloat16():
        yield "model.dtype=bfloat16: float32 is faster on this processor"
    plans = [("training", plan), *(("validation", of) for of in experiment.evaluation_plans)]
    seen_labels = [np.zeros(0, bool), *experiment.seen_labels]
    for (role, of), seen in zip(plans, seen_labels, strict=True):
        source, count = of.source, of.reasons.total()
        yield f"{role}: {source.name}: {len(source):,} samples, {count:,} cannot be trained on"
        yield from (f"  {line}" for line in (*of.reasons.lines(), *source.notes.lines()))
        if seen.any():
            line = f"  {seen.sum():,} of its {seen.size:,} labels occur in training too"
            split_off = "; --config.data.split='10% by label' holds out labels that do not"
            yield line + split_off * (not config.data.validation)
    size = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    yield f"{experiment.model.name}: {size:,} parameters"
    yield f"characters: {experiment.charset.num_classes - 1} and the blank"
    named = experiment.config.charset.table or experiment.config.charset.characters
    if not named and (gaps := experiment.charset.gaps):
        yield (
            f"  the labels lack {gaps!r}, which would be misread; charset.keep=True keeps those of "
            "init_from, charset.characters names all"
        )
    widths = str(rule.width) if rule.width else f"{rule.min_width} to {rule.max_width}"
    yield (
        f"images: {'grey' if rule.channels == 1 else 'RGB'}, {widths} px wide, "
        f"{'' if rule.antialias else 'not '}antialiased, (x - {rule.mean:g}) / {rule.scale:g}"
    )
    width = rule.width or rule.max_width
    frames = num_frames(width, experiment.model.geometry)
    yield f"{width} px -> {frames} frames: at most {frames} characters, fewer with doubles"
    yield (
        f"{plan.steps_per_epoch} batches of {config.batch_size} an epoch, "
        f"{', '.join(map(str, plan.widths))} px wide; {experiment.total_steps} steps in all"
    )


def validation_lines(step: int, result: EvaluationResult) -> Iterator[str]:
    """The result of an evaluation, with a hint while most readings are empty."""
    metrics = result.metrics()
    empty = metrics["empty"] / max(metrics["count"], 1)
    unseen = ""
    if count := metrics.get("unseen_labels_count"):
        unseen = f"{metrics['accuracy_unseen_labels']:.4f} of the {count} with unseen labels, "
    yield (
        f"validation at step {step}: accuracy {metrics['accuracy']:.4f} of {metrics['count']}, "
        f"{unseen}CER {metrics.get('cer', float('nan')):.4f}, empty readings {100 * empty:.1f} %"
    )
    if empty > 0.5:
        yield "  CTC plateau: usual until 20,000-60,000 images"
    unread = Reasons()
    for row in result.rows:
        if row.reason is not None:
            unread.add(row.reason, [shown_path(row.path)])
    for line in unread.lines():
        yield f"  counted as wrong: {line}"


def summary(
    experiment: Experiment, state: TrainState, metrics: RunMetrics, best: BestEvaluation
) -> dict[str, Any]:
    """The contents of summary.json."""
    device, step = jax.devices()[0], int(state.step)
    return {
        "steps": step,
        "asked_steps": experiment.total_steps,  # more than `steps` after an early stop
        "images": step * experiment.config.batch_size,
        "hours": round(metrics.seconds / 3600, 4),
        "best_step": best.step,
        "best_validation": best.metrics,
        "last_validation": best.last,
        "skipped_steps": metrics.skipped,
        "failed_samples": metrics.failed.to_json(),
        "hardware": f"{jax.device_count()} x {device.device_kind} ({platform.machine()})",
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "weights_sha256": weights_sha256(state.variables),
    }


def weights_sha256(variables: Any) -> str:
    """SHA-256 of names and float32 bytes of all leaves, in the order of their names."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]:
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf, np.float32).tobytes())
    return digest.hexdigest()


def sheet(samples: Sequence[tuple[np.ndarray, str, str]], columns: int = 3) -> np.ndarray:
    """Draws images, uint8 [h w 1|3], with label and, if it differs, reading --> uint8 [h w 3]."""
    rows = max(1, -(-len(samples) // columns))
    canvas = Image.new("RGB", (columns * COLUMN, rows * ROW), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    size = COLUMN - 2 * MARGIN, ROW - 2 * MARGIN - 20
    for i, (image, label, reading) in enumerate(samples):
        left, top = i % columns * COLUMN + MARGIN, i // columns * ROW + MARGIN
        word = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("RGB")
        word.thumbnail(size)
        canvas.paste(word, (left, top))
        below = top + size[1] + 2
        pen.text((left, below), label, font=font, fill=RIGHT if label == reading else INK)
        if label != reading:
            end = left + pen.textlength(f"{label}  ", font=font)
            pen.text((end, below), reading or "(nothing)", font=font, fill=WRONG)
    return np.asarray(canvas)
