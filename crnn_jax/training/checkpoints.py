"""Checkpoints that are whole or do not exist: orbax's arrays, our checksums, one rename at the end.

    checkpoints = Checkpoints(workdir / 'checkpoints' / 'latest', keep=2)
    checkpoints.save(step, state, meta)
    found = checkpoints.restore(like=state)  # (state, meta) of the newest sound one, or None

orbax restores damaged arrays without a word, so a step counts only when its `sha256.json` is there
and every file matches. A step is written under another name and renamed when all of it is on disk.
"""

import errno
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.reading.checkpoint import META, SUMS, damage, steps, sums
from crnn_jax.training.parallel import is_first, wait_for_all

MARGIN = 1.2  # a checkpoint is a little larger than its arrays


class Checkpoints:
    """The checkpoints of one folder, newest last, at most `keep` of them."""

    def __init__(self, directory: str | os.PathLike, keep: int, say: Callable[[str], None] = print):
        self.directory = Path(directory).absolute()
        self.keep = keep
        self.say = say
        self._read_back = False

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Writes a step and removes the oldest beyond `keep`; all processes of a run call it.

        Args:
          step: names the folder.
          state: pytree of arrays.
          meta: JSON values.

        Raises:
          OSError: the disk is full or not writable; earlier steps are untouched.
          RuntimeError: the first checkpoint does not read back as it was saved.
        """
        final, partial = self.directory / str(step), self.directory / f"{step}.partial"
        if is_first():
            for leftover in self.directory.glob("*.partial"):
                shutil.rmtree(leftover)
            partial.mkdir(parents=True)
        wait_for_all(f"step {step} can be written")  # no path: mounts differ
        try:
            _require_room(partial, state)
            with _checkpointer() as checkpointer:
                checkpointer.save(partial / "state", state)  # of all processes: each its part
            if not self._read_back:
                _require_readable(partial / "state", state)
                self._read_back = True
            if is_first():
                self._complete(partial, final, meta)
        except BaseException:
            if is_first():
                shutil.rmtree(partial, ignore_errors=True)
            raise
        wait_for_all(f"step {step} is whole")

    def _complete(self, partial: Path, final: Path, meta: dict[str, Any]) -> None:
        """Checksums, the rename that makes a step count, and the removal of those beyond `keep`."""
        (partial / META).write_text(json.dumps(meta), encoding="utf-8")
        digests = sums(partial, sync=True)
        with (partial / SUMS).open("w", encoding="utf-8") as file:
            json.dump(digests, file, indent=0)
            file.flush()
            os.fsync(file.fileno())
        # The same or a later step was passed over as damaged, or this one would not be written.
        for later in (s for s in steps(self.directory) if s >= int(final.name)):
            shutil.rmtree(self.directory / str(later))
        partial.rename(final)
        folder = os.open(self.directory, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        for old in steps(self.directory)[: -self.keep]:
            shutil.rmtree(self.directory / str(old))

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """State and meta of the newest sound step; None where there is no step at all.

        Args:
          like: a pytree of arrays whose shapes, dtypes and shardings the state takes.
        """
        found = steps(self.directory)
        for step in reversed(found):
            folder = self.directory / str(step)
            if wrong := damage(folder):
                self.say(f"checkpoint {folder} is damaged ({wrong}); trying the one before")
                continue
            structs = jax.tree.map(
                lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), like
            )
            with _checkpointer() as checkpointer:
                state = checkpointer.restore(folder / "state", structs)
            return state, json.loads((folder / META).read_text(encoding="utf-8"))
        if found:
            raise UserError(
                f"{self.directory}: every checkpoint is damaged; remove it to start anew"
            )
        return None


def _require_room(folder: Path, state: Any) -> None:
    """Raises OSError where the disk is too full: orbax would say so in a hundred lines."""
    needed = MARGIN * sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _require_readable(folder: Path, state: Any) -> None:
    """Raises where a checkpoint is not what was saved: checksums cannot find that."""
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

    logging.getLogger("absl").addFilter(_is_worth_saying)
    # Not the one that saves in the background: it gives up by the wall clock, which may jump.
    # Not OCDBT: its parts are searched for by a pattern that a folder named `a[1]` breaks.
    return ocp.Checkpointer(ocp.StandardCheckpointHandler(use_ocdbt=False))


def _is_worth_saying(record: logging.LogRecord) -> bool:
    return "Skipping merge of OCDBT" not in record.getMessage()  # there is none, as was asked for
