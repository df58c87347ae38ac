"""The folder of a run: what it was asked to do, so that the same command goes on with it."""

import contextlib
import fcntl
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.files import whole_file
from crnn_jax.reading.checkpoint import META
from crnn_jax.reading.loaded_model import WORKDIR_MODEL
from crnn_jax.training import hosts
from crnn_jax.training.checkpoints import Checkpoints

# These change nothing about the numbers of a run, so a resumed run takes their new values.
FREE = ("log", "checkpoint", "data.workers", "data.loader", "data.cache")
# These may grow: the run goes on beyond its first end.
GROWING = ("epochs", "steps")
# What the optimizer keeps in a checkpoint depends on these, as far as the function tells.
ARRAYS: dict[str, Callable[[Any], Any]] = {
    "optimizer.name": str,
    "optimizer.clip_norm": bool,
    "optimizer.ema": bool,
    "optimizer.accumulate": lambda batches: batches > 1,
    "freeze": frozenset,
}


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
        self._lock: TextIO | None = None

    def open(self, config: dict[str, Any], *, with_new_config: bool) -> None:
        """Makes the folder, or checks that what was trained in it had the same config.

        Raises:
          UserError: it cannot be made, or it holds a run with another config.
        """
        try:
            str(self.path.absolute()).encode()
        except UnicodeEncodeError:  # in bytes that are not UTF-8; orbax takes no others
            raise UserError(f"--workdir={self.path}: its path is not UTF-8") from None
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._hold()
        except OSError as error:
            raise UserError(f"--workdir={self.path}: {error.strerror}") from None
        # Before the first checkpoint there is nothing that another config could spoil.
        if self.config.exists() and self.latest.exists():
            old = read_json(self.config)
            self._require_same_arrays(old, config)
            if not with_new_config:
                self._compare(old, config)

    def _hold(self) -> None:
        """Keeps other runs out until this process ends, however it ends."""
        if not hosts.first():
            return
        self._lock = (self.path / ".lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise UserError(f"--workdir={self.path}: another run is at work in it") from None

    def release(self) -> None:
        """Lets other runs in."""
        if self._lock:
            self._lock.close()

    def begin(self, config: dict[str, Any], charset: Charset) -> None:
        """Stores what the run is asked to do; only now, when nothing in it was found wrong."""
        write_json(self.config, config)
        charset.write(self.table)

    def _require_same_arrays(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Refuses an optimizer that the checkpoints cannot be restored into."""
        before, now = _flat(old), _flat(new)
        for key, arrays in ARRAYS.items():
            if key in before and arrays(before[key]) != arrays(now[key]):
                raise UserError(
                    f"{self.path} was begun with config.{key}={before[key]!r}, its checkpoints do "
                    f"not fit {now[key]!r}; start in another --workdir with "
                    f"--config.init_from={self.path}"
                )

    def _compare(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        before, now = _flat(old), _flat(new)
        for key in sorted(set(before) | set(now)):
            was, is_ = before.get(key), now.get(key)
            free = any(key == f or key.startswith(f + ".") for f in FREE)
            grown = key in GROWING and was is not None and is_ is not None and is_ >= was
            if was != is_ and not free and not grown:
                raise UserError(
                    f"{self.path} was begun with config.{key}={was!r}, now it is {is_!r}; "
                    "take another --workdir, or insist with --resume=with_new_config"
                )

    def model_metadata(self) -> dict[str, Any] | None:
        """What the run that was begun here states of its model; None in a new workdir."""
        steps = Checkpoints(self.latest, keep=1).steps()
        for step in reversed(steps):
            with contextlib.suppress(UserError):  # a damaged one: the run takes the one before
                return read_json(self.latest / str(step) / META)["model"]
        return None

    def finished(self, total_steps: int) -> str:
        """A line on the run that has finished, '' if it has not or so many steps extend it."""
        if not self.summary.exists():
            return ""
        summary = read_json(self.summary)
        if summary["asked_steps"] < total_steps:
            return ""
        return f"finished at step {summary['steps']}; more epochs would extend it"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; UserError in one line where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None


def write_json(path: Path, value: Any) -> None:
    """Writes JSON into a file that is whole at any moment."""
    with whole_file(path) as file:
        file.write(json.dumps(value, indent=1, sort_keys=True) + "\n")


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat
