"""Checkpoints of a training run on the disk: read, and known to be whole.

    variables, metadata = read_variables('runs/words')

A step is a folder: orbax's arrays in `state`, `meta.json`, and
the SHA-256 of every file in `sha256.json`; orbax restores damaged arrays without a word.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from crnn_jax.core.errors import UserError

SUMS = "sha256.json"
META = "meta.json"
WORKDIR_MODEL = "model.safetensors"  # of the best evaluation so far


def read_variables(workdir: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """NumPy variables (averaged ones where the run averages) and model metadata of a workdir.

    Of its best checkpoint, else of its latest; raises UserError where none is sound.
    """
    for name in ("best", "latest"):
        directory = Path(workdir).absolute() / "checkpoints" / name
        for step in reversed(steps(directory)):
            folder = directory / str(step)
            if damage(folder):
                continue
            state = read_state(folder / "state")
            meta = json.loads((folder / META).read_text(encoding="utf-8"))
            variables = state.get("ema") or {k: state[k] for k in ("params", "batch_stats")}
            return variables, meta["model"]
    raise UserError(f"{workdir}: no sound checkpoint in checkpoints/best or checkpoints/latest")


def read_state(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """All arrays of a checkpoint's `state` as NumPy's, whatever processes and devices saved it."""
    import orbax.checkpoint as ocp  # three seconds; a model file does not need it

    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        saved = checkpointer.metadata(folder).item_metadata.tree
        plain = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
        return checkpointer.restore(folder, ocp.args.PyTreeRestore(restore_args=plain))


def steps(directory: Path) -> list[int]:
    """Steps there are, sound or not, in rising order."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


def damage(folder: Path) -> str:
    """What is wrong with a step, '' if nothing."""
    try:
        written = json.loads((folder / SUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"{SUMS}: {error}"
    found = sums(folder)
    wrong = [name for name, digest in written.items() if found.get(name) != digest]
    return f"{wrong[0]} {'changed' if wrong[0] in found else 'is missing'}" if wrong else ""


def sums(folder: Path, *, sync: bool = False) -> dict[str, str]:
    """SHA-256 of every file below a folder by its relative path; `sync` forces them to the disk."""
    digests = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SUMS):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests[path.relative_to(folder).as_posix()] = digest
            if sync:
                os.fsync(file.fileno())
    return digests
