"""The folder of a run, and checkpoints that are whole or do not exist.

    checkpoints = Checkpoints(workdir / 'checkpoints' / 'latest', keep=2)
    checkpoints.save(step, state, meta)
    found = checkpoints.restore(like=state)  # (state, meta) of the newest sound one, or None

orbax restores damaged arrays without a word, so a step counts only when its `sha256.json` is there
and every file matches. A step is written under another name and renamed when all of it is on disk.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import whole_file
from crnn_jax.core.model_file import flatten
from crnn_jax.reading.checkpoint import META, SUMS, WORKDIR_MODEL, damage, steps, sums
from crnn_jax.training.parallel import abstract, is_first, wait_for_all

MARGIN = 1.2  # a checkpoint is a little larger than its arrays
# Keys without influence on a run's numbers: a resumed run takes their new values.
FREE = ("log.", "checkpoint.", "data.workers", "data.loader", "data.cache")
# Keys by the names they had in earlier versions.
RENAMED = {
    "least_steps": "min_steps",
    "data.boundaries": "data.bucket_boundaries",
    "data.replay": "data.synthetic_ratio",
    "optimizer.accumulate": "optimizer.gradient_accumulation_steps",
    "optimizer.ema": "optimizer.ema_decay",
    "optimizer.max_not_finite": "optimizer.max_nonfinite_steps",
}
# Keys that may grow: the run is extended.
GROWING = ("epochs", "steps", "min_steps")
# Key -> the part of its value that decides which arrays a checkpoint holds.
ARRAYS: dict[str, Callable[[Any], Any]] = {
    "optimizer.name": str,
    "optimizer.b1": bool,
    "optimizer.clip_norm": bool,
    "optimizer.ema_decay": bool,
    "optimizer.gradient_accumulation_steps": lambda batches: batches > 1,
    "freeze": frozenset,
}


class Checkpoints:
    """The checkpoints of one folder, newest last, at most `keep` of them."""

    def __init__(self, directory: str | os.PathLike, keep: int, say: Callable[[str], None] = print):
        self.directory = Path(directory).absolute()
        self.keep = keep
        self.say = say
        self._read_back = False

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Writes a step and removes the oldest beyond `keep`; all processes of a run call it.

        Raises:
          OSError: the disk is full or not writable; earlier steps are untouched.
        """
        final, partial = self.directory / str(step), self.directory / f"{step}.partial"
        if is_first():
            for leftover in self.directory.glob("*.partial"):
                shutil.rmtree(leftover)
            partial.mkdir(parents=True)
        wait_for_all(f"step {step} can be written")  # no path: mounts differ
        with contextlib.ExitStack() as undo:
            if is_first():
                undo.callback(shutil.rmtree, partial, ignore_errors=True)
            _require_room(partial, state)
            with _checkpointer() as checkpointer:
                checkpointer.save(partial / "state", state)  # of all processes: each its part
            if not self._read_back:
                _require_readable(partial / "state", state)
                self._read_back = True
            if is_first():
                self._complete(partial, final, meta)
            undo.pop_all()
        wait_for_all(f"step {step} is whole")

    def _complete(self, partial: Path, final: Path, meta: dict[str, Any]) -> None:
        """Writes checksums, renames the step into place and removes those beyond `keep`."""
        (partial / META).write_text(json.dumps(meta), encoding="utf-8")
        digests = sums(partial, sync=True)
        with (partial / SUMS).open("w", encoding="utf-8") as file:
            json.dump(digests, file, indent=0)
            file.flush()
            os.fsync(file.fileno())
        # A step that is already there, or a later one, was skipped as damaged.
        for later in (s for s in steps(self.directory) if s >= int(final.name)):
            shutil.rmtree(self.directory / str(later))
        partial.rename(final)
        folder = os.open(self.directory, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        for old in steps(self.directory)[: -self.keep]:
            shutil.rmtree(self.directory / str(old))

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """State, sharded as `like`, and meta of the newest sound step; None where there is none."""
        like = jax.tree.map(abstract, like)
        found = steps(self.directory)
        for step in reversed(found):
            folder = self.directory / str(step)
            if wrong := damage(folder):
                self.say(f"checkpoint {folder} is damaged ({wrong}); trying the one before")
                continue
            with _checkpointer() as checkpointer:
                state = checkpointer.restore(folder / "state", like)
            return state, json.loads((folder / META).read_text(encoding="utf-8"))
        if found:
            raise UserError(
                f"{self.directory}: every checkpoint is damaged; remove it to start anew"
            )
        return None


def _require_room(folder: Path, state: Any) -> None:
    """Raises OSError if the disk is too full; orbax's message has a hundred lines."""
    needed = MARGIN * sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _require_readable(folder: Path, state: Any) -> None:
    """Raises RuntimeError if a checkpoint does not hold what was saved; checksums cannot tell."""
    on_host = jax.tree.map(lambda a: np.empty(a.shape, a.dtype), state)
    with _checkpointer() as checkpointer:
        found = checkpointer.restore(folder, on_host)
    # Bytes, since NaN does not equal itself.
    same = jax.tree.map(lambda a, b: np.asarray(a).tobytes() == b.tobytes(), state, found)
    if not all(jax.tree.leaves(same)):
        raise RuntimeError(f"{folder}: reads back with other values than were saved")


def _checkpointer():
    # Three seconds to import; reading a model file does not need it.
    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.ERROR)  # it warns that there is no OCDBT to merge
    # Not the asynchronous one: its timeout is by the wall clock, which may jump.
    # Not OCDBT: it looks for its parts by a glob, which a folder named `a[1]` breaks.
    return ocp.Checkpointer(ocp.StandardCheckpointHandler(use_ocdbt=False))


class Workdir:
    """Paths of one run and its stored config.

    config.json table.txt metrics.jsonl tensorboard/ checkpoints/{latest,best}/<step>/
    model.safetensors (the best so far) summary.json (only once the run is finished)
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.table = self.path / "table.txt"
        self.metrics = self.path / "metrics.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.latest = self.path / "checkpoints" / "latest"
        self.best = self.path / "checkpoints" / "best"
        self.model = self.path / WORKDIR_MODEL
        self.summary = self.path / "summary.json"

    def require_same(self, config: dict[str, Any], *, with_new_config: bool) -> None:
        """UserError for a config that changes the run, or that its checkpoints do not fit."""
        if not (self.config.exists() and steps(self.latest)):
            return  # before the first checkpoint any config will do
        before, now = by_key(read_json(self.config)), by_key(config)
        before = {RENAMED.get(key, key): value for key, value in before.items()}
        for key, was in sorted(before.items()):  # a key that is new since then changes nothing
            wanted = now.get(key)
            if was == wanted:
                continue
            change = f"{self.path} was begun with config.{key}={was!r}, now it is {wanted!r}; "
            if key in ARRAYS and was is not None and ARRAYS[key](was) != ARRAYS[key](wanted):
                raise UserError(
                    f"{change}its checkpoints do not fit, start in another --workdir with "
                    f"--config.init_from={self.path}"
                )
            grown = key in GROWING and was is not None and wanted is not None and wanted >= was
            if not (with_new_config or grown or key.startswith(FREE)):
                raise UserError(
                    f"{change}take another --workdir, or insist with --resume=with_new_config"
                )

    def meta(self) -> dict[str, Any]:
        """What the newest checkpoint says of its run; {} in a new workdir."""
        for step in reversed(steps(self.latest)):
            with contextlib.suppress(UserError):  # a damaged one, which `restore` skips too
                return read_json(self.latest / str(step) / META)
        return {}

    def other_samples(self, now: int) -> Iterator[str]:
        """A line if the run was saved with another number of training samples."""
        if (before := self.meta().get("samples", now)) != now:
            yield (
                f"{now:,} samples now, {before:,} when this run was saved: its steps and learning "
                "rates stay as planned; to train on the new ones in full, take another --workdir "
                f"with --config.init_from={self.path}"
            )

    @property
    def ended_at(self) -> int:
        """The step at which the run was finished; -1 if it was not."""
        return read_json(self.summary)["steps"] if self.summary.exists() else -1

    def finished(self, total_steps: int) -> str:
        """A line about a finished run; '' if it is not, or `total_steps` extends it."""
        summary = read_json(self.summary) if self.summary.exists() else {"asked_steps": -1}
        if summary["asked_steps"] < total_steps:
            return ""
        return f"finished at step {summary['steps']}; more epochs would extend it"


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file; UserError if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    with whole_file(path) as file:
        file.write(json.dumps(value, indent=1, sort_keys=True) + "\n")


def require_new_names(config: dict[str, Any]) -> None:
    """UserError for a key that a config file sets by its old name: nothing would read it."""
    for key in RENAMED.keys() & by_key(config).keys():
        raise UserError(f"config.{key} is called config.{RENAMED[key]} now")


def by_key(config: dict[str, Any]) -> dict[str, Any]:
    """'optimizer.ema_decay' -> its value, as JSON keeps it."""
    return {
        key.replace("/", "."): list(value) if isinstance(value, tuple) else value
        for key, value in flatten(config).items()
    }
