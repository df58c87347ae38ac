"""Checkpoints that are whole or do not exist: orbax's arrays, our checksums, one rename at the end.

    checkpoints = Checkpoints(workdir / 'checkpoints' / 'latest', keep=2)
    checkpoints.save(step, state, meta)
    found = checkpoints.restore(like=state)  # (state, meta) of the newest sound one, or None

orbax restores damaged arrays without a word, so a step counts only when its `sha256.json` is there
and every file matches. A step is written under another name and renamed when all of it is on disk.
"""

import errno
import hashlib
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
from crnn_jax.training import hosts

SUMS = "sha256.json"
META = "meta.json"
ROOM = 1.2  # a checkpoint is a little larger than its arrays


class Checkpoints:
    """The checkpoints of one folder, newest last, at most `keep` of them."""

    def __init__(self, directory: str | os.PathLike, keep: int, say: Callable[[str], None] = print):
        self.directory = Path(directory).absolute()
        self.keep = keep
        self.say = say
        self._read_back = False

    def steps(self) -> list[int]:
        """Steps there are, sound or not, in rising order."""
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdigit())

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
        final = self.directory / str(step)
        partial = self.directory / f"{step}.partial"
        if hosts.first():
            for leftover in self.directory.glob("*.partial"):
                shutil.rmtree(leftover)
            partial.mkdir(parents=True)
        hosts.wait(f"step {step} can be written")  # no path: mounts differ
        try:
            _require_room(partial, state)
            with _checkpointer() as checkpointer:
                checkpointer.save(partial / "state", state)  # of all processes: each its part
            if not self._read_back:
                _require_readable(partial / "state", state)
                self._read_back = True
            if hosts.first():
                self._complete(partial, final, meta)
        except BaseException:
            if hosts.first():
                shutil.rmtree(partial, ignore_errors=True)
            raise
        hosts.wait(f"step {step} is whole")

    def _complete(self, partial: Path, final: Path, meta: dict[str, Any]) -> None:
        """Checksums, the rename that makes a step count, and the removal of those beyond `keep`."""
        (partial / META).write_text(json.dumps(meta), encoding="utf-8")
        _write_synced(partial / SUMS, json.dumps(_sums(partial, sync=True), indent=0))
        # The same or a later step was passed over as damaged, or this one would not be written.
        for later in (s for s in self.steps() if s >= int(final.name)):
            shutil.rmtree(self.directory / str(later))
        partial.rename(final)
        _sync_folder(self.directory)
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.directory / str(old))

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest sound step.

        Args:
          like: a pytree of arrays whose shapes, dtypes and shardings the result takes.

        Returns:
          (state, meta), or None where there is no step at all.

        Raises:
          UserError: there are steps, but each is damaged or of another network.
        """
        steps = self.steps()
        for step in reversed(steps):
            folder = self.directory / str(step)
            if damage := _damage(folder):
                self.say(f"checkpoint {folder} is damaged ({damage}); trying the one before")
                continue
            with _checkpointer() as checkpointer:
                state = checkpointer.restore(folder / "state", _abstract(like))
            return state, json.loads((folder / META).read_text(encoding="utf-8"))
        if steps:
            raise UserError(
                f"{self.directory}: every checkpoint is damaged; remove it to start anew"
            )
        return None


def read_variables(workdir: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables and model metadata of a workdir's best checkpoint, else of its latest.

    Returns:
      {'params': .., 'batch_stats': ..} with NumPy leaves (averaged ones where the run averages),
      and the metadata that a model file holds.

    Raises:
      UserError: no sound checkpoint there.
    """
    root = Path(workdir) / "checkpoints"
    for name in ("best", "latest"):
        checkpoints = Checkpoints(root / name, keep=1)
        for step in reversed(checkpoints.steps()):
            folder = checkpoints.directory / str(step)
            if _damage(folder):
                continue
            state = read_state(folder / "state")
            meta = json.loads((folder / META).read_text(encoding="utf-8"))
            variables = state.get("ema") or {k: state[k] for k in ("params", "batch_stats")}
            return variables, meta["model"]
    raise UserError(f"{workdir}: no sound checkpoint in checkpoints/best or checkpoints/latest")


def read_state(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """All arrays of a checkpoint's `state` as NumPy's, whatever processes and devices saved it."""
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        saved = checkpointer.metadata(folder).item_metadata.tree
        plain = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
        return checkpointer.restore(folder, ocp.args.PyTreeRestore(restore_args=plain))


def _require_room(folder: Path, state: Any) -> None:
    """Raises OSError where the disk is too full: orbax would say so in a hundred lines."""
    needed = ROOM * sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _require_readable(folder: Path, state: Any) -> None:
    """Raises where a checkpoint is not what was saved: checksums cannot tell."""
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

    logging.getLogger("absl").addFilter(_worth_saying)
    # Not the one that saves in the background: it gives up by the wall clock, which may jump.
    # Not OCDBT: its parts are searched for by a pattern that a folder named `a[1]` breaks.
    return ocp.Checkpointer(ocp.StandardCheckpointHandler(use_ocdbt=False))


def _worth_saying(record: logging.LogRecord) -> bool:
    return "Skipping merge of OCDBT" not in record.getMessage()  # there is none, as was asked for


def _abstract(tree):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), tree)


def _sums(folder: Path, *, sync: bool = False) -> dict[str, str]:
    """SHA-256 of every file below a folder by its relative path."""
    sums = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SUMS):
        with path.open("rb") as file:
            sums[path.relative_to(folder).as_posix()] = hashlib.file_digest(
                file, "sha256"
            ).hexdigest()
            if sync:
                os.fsync(file.fileno())
    return sums


def _damage(folder: Path) -> str:
    """What is wrong with a step, '' if nothing."""
    try:
        stated = json.loads((folder / SUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"{SUMS}: {error}"
    found = _sums(folder)
    wrong = [name for name, digest in stated.items() if found.get(name) != digest]
    return f"{wrong[0]} {'changed' if wrong[0] in found else 'is missing'}" if wrong else ""


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
