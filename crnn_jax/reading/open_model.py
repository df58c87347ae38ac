"""Opens what a user calls a model: a file, a run's workdir, or the name of one that ships."""

import os
from pathlib import Path
from typing import Any

from crnn_jax.core.errors import UserError
from crnn_jax.core.model_file import load_model

WORKDIR_MODEL = "model.safetensors"  # of the best evaluation so far
SHIPPED = Path(__file__).resolve().parents[1] / "weights"


def open_model(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables and metadata of a model.

    Args:
      path: of a `.safetensors` file or a workdir; or 'en_36' or 'en_94', the models that ship.

    Returns:
      (variables: nested dictionaries of float32 NumPy arrays, metadata), as `load_model`.

    Raises:
      UserError: nothing is there, or it is damaged.
    """
    if not os.path.exists(path) and (SHIPPED / f"{os.fspath(path)}.safetensors").exists():
        return load_model(SHIPPED / f"{os.fspath(path)}.safetensors")
    if not os.path.isdir(path):
        return load_model(path)
    best = os.path.join(path, WORKDIR_MODEL)
    if os.path.exists(best):
        return load_model(best)
    if not os.path.isdir(os.path.join(path, "checkpoints")):
        raise UserError(
            f"{os.fspath(path)}: a folder without checkpoints; a model is a .safetensors file or "
            "the workdir of a training run"
        )
    # orbax and what it needs load slowly, and a model file needs neither.
    from crnn_jax.training.checkpoints import read_variables

    return read_variables(path)
