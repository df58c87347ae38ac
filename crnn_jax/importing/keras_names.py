"""Keras's names of weights: which layer, which of its arrays."""

import re
from typing import Any

ROLES = (
    "kernel",
    "recurrent_kernel",
    "bias",
    "gamma",
    "beta",
    "moving_mean",
    "moving_variance",
)


def split_path(path: str) -> tuple[str, str]:
    """Layer and role of a weight's path.

    'conv1/kernel:0' -> ('conv1', 'kernel');
    'bi_lstm1/forward_lstm/lstm_cell_1/bias' -> ('bi_lstm1', 'forward/bias');
    'forward_lstm_1/lstm_cell/bias' -> ('lstm_1', 'forward/bias'), as Keras 3 names it in graphs.
    """
    *folders, leaf = path.partition(":")[0].split("/")
    for place, folder in enumerate(folders):
        direction, _, rest = folder.partition("_")
        if direction in ("forward", "backward"):
            return (folders[place - 1] if place else rest), f"{direction}/{leaf}"
    return (folders[-1] if folders else ""), leaf


def natural(name: str) -> list[Any]:
    """Sorts conv2d, conv2d_1, .. conv2d_9, conv2d_10 as Keras counted them."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]
