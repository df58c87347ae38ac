"""The points of a sweep: what a config's `sweep(add)` asks for, with a name for each.

def sweep(add):
    for rate in (3e-4, 1e-3):
        for ema in (0.0, 0.999):
            add({"optimizer.learning_rate": rate, "optimizer.ema": ema})
"""

import importlib.util
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crnn_jax.spec.errors import UserError

Changes = dict[str, Any]
LONGEST_NAME = 120


def points_of(config_file: str) -> dict[str, Changes]:
    """Runs the `sweep` function of a config file.

    Args:
        config_file: path of the file.

    Returns:
        Name of a point (fit for a folder) -> config key -> value, in the order they were added.

    Raises:
        UserError: no such function, a point twice, or one that is no mapping of keys.
    """
    path = Path(config_file.partition(":")[0])
    # Configs import each other as `configs.x`.
    sys.path.insert(0, str(path.resolve().parent.parent))
    spec = importlib.util.spec_from_file_location("crnn_jax_sweep", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, "sweep", None)):
        raise UserError(f"{path}: no function sweep(add); it calls add({{'key': value}}) a point")
    points: dict[str, Changes] = {}

    def add(changes: Mapping[str, Any]) -> None:
        if not isinstance(changes, Mapping) or not changes:
            raise UserError(f"{path}: add({changes!r}): want {{'optimizer.ema': 0.99}}")
        name = name_of(changes)
        if name in points:
            raise UserError(f"{path}: the point {name} is added twice")
        points[name] = dict(changes)

    module.sweep(add)
    if not points:
        raise UserError(f"{path}: sweep(add) added no point")
    return points


def name_of(changes: Mapping[str, Any]) -> str:
    """'ema=0.99,learning_rate=0.001': the last part of each key, in the order of the keys."""
    text = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in changes.items())
    name = re.sub(r"[^\w.,=+-]+", "_", text).strip("_.")
    if len(name) > LONGEST_NAME:
        raise UserError(f"sweep: {name[:40]}...: a point with a name this long; change fewer keys")
    return name


def flags_of(changes: Mapping[str, Any]) -> list[str]:
    """The point as arguments of crnn_jax.main."""
    return [f"--config.{key}={value}" for key, value in changes.items()]
