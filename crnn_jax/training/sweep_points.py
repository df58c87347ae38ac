"""What a config file says of its sweep: `sweep(add)` lists points, `suggest(trial)` draws one.

def sweep(add):
    for rate in (3e-4, 1e-3):
        for ema in (0.0, 0.999):
            add({"optimizer.learning_rate": rate, "optimizer.ema": ema})


def suggest(trial):  # an optuna.Trial
    return {"optimizer.learning_rate": trial.suggest_float("rate", 1e-4, 3e-3, log=True)}
"""

import importlib.util
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from crnn_jax.core.errors import UserError

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
    path = _path(config_file)
    sweep = _function(path, "sweep")
    if sweep is None:
        raise UserError(f"{path}: no function sweep(add); it calls add({{'key': value}}) a point")
    points: dict[str, Changes] = {}

    def add(changes: Mapping[str, Any]) -> None:
        _require_changes(changes, f"{path}: add({changes!r})")
        name = name_of(changes)
        if name in points:
            raise UserError(f"{path}: the point {name} is added twice")
        points[name] = dict(changes)

    sweep(add)
    if not points:
        raise UserError(f"{path}: sweep(add) added no point")
    return points


def suggestion_of(config_file: str) -> Callable[[Any], Changes]:
    """The `suggest` function of a config file, what it returns looked at.

    Args:
        config_file: path of the file.

    Returns:
        optuna.Trial -> config key -> value.

    Raises:
        UserError: no such function; by what is returned: no mapping of keys.
    """
    path = _path(config_file)
    suggest = _function(path, "suggest")
    if suggest is None:
        raise UserError(
            f"{path}: no function suggest(trial); it returns "
            "{'optimizer.ema': trial.suggest_float('ema', 0.9, 0.999)}"
        )

    def changes_of(trial: Any) -> Changes:
        changes = suggest(trial)
        _require_changes(changes, f"{path}: suggest(trial) returned {changes!r}")
        return dict(changes)

    return changes_of


def _path(config_file: str) -> Path:
    return Path(config_file.partition(":")[0])


def _function(path: Path, name: str) -> Callable[[Any], Any] | None:
    """That function of a config file; None where it has none."""
    # Configs import each other as `configs.x`.
    sys.path.insert(0, str(path.resolve().parent.parent))
    spec = importlib.util.spec_from_file_location("crnn_jax_sweep", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    return found if callable(found) else None


def _require_changes(changes: object, what: str) -> None:
    if not isinstance(changes, Mapping) or not changes:
        raise UserError(f"{what}: want {{'optimizer.ema': 0.99}}")


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
