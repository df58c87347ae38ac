"""How many frames (columns of logits) the network makes of an image's width.

Two geometries: `keras` (CRNN.tf2's; ours) pads pools SAME and ends in a VALID 2x2 convolution,
T = ceil(W / 4) - 1; `torch` (crnn.pytorch's) floors at the first two pools and pads the width at
the last two, T = floor(floor(W / 2) / 2) + 1. Functions take Python ints, numpy or jax arrays
alike: they use + - * // and comparisons only.
"""

import itertools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from crnn_jax.core.errors import UserError

HEIGHT = 32  # pixels; pools and the last convolution make one row of them

Width = TypeVar("Width", bound=Any)  # int, numpy or jax integer array

LAYERS = (
    "conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "pool3", "conv5", "conv6", "pool4",
    "conv7",
)  # fmt: skip

# Geometry -> layers that change a width, and how. A masked row's width 0 must stay 0.
_CHANGES: dict[str, dict[str, Callable[[Any], Any]]] = {
    "keras": {
        "pool1": lambda w: (w + 1) // 2,
        "pool2": lambda w: (w + 1) // 2,
        "conv7": lambda w: (w - 1) * (w > 0),
    },
    "torch": {
        "pool1": lambda w: w // 2,
        "pool2": lambda w: w // 2,
        "pool3": lambda w: (w + 1) * (w > 0),
        "pool4": lambda w: (w + 1) * (w > 0),
        "conv7": lambda w: (w - 1) * (w > 0),
    },
}
GEOMETRIES = tuple(_CHANGES)


def layer_widths(width: Width, geometry: str) -> dict[str, Width]:
    """Width after each layer, by the layer's name.

    Args:
        width: of the resized image in pixels, int or integer array of any shape.
        geometry: 'keras' or 'torch'; another one is a UserError.
    """
    if geometry not in _CHANGES:
        raise UserError(f"geometry {geometry!r}: must be one of {' | '.join(GEOMETRIES)}")
    widths = {}
    for name in LAYERS:
        if change := _CHANGES[geometry].get(name):
            width = change(width)
        widths[name] = width
    return widths


def num_frames(width: Width, geometry: str) -> Width:
    """Frames that an image of this width gives; 0 where it is too narrow for the network."""
    return layer_widths(width, geometry)["conv7"]


def min_image_width(geometry: str) -> int:
    """The smallest width in pixels that gives at least one frame."""
    return next(width for width in itertools.count(1) if num_frames(width, geometry) > 0)


def frames_needed_flat(flat_ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Frames that CTC needs for labels: their characters, and a blank between equal neighbours.

    Args:
        flat_ids: integer [sum of lengths], all labels one after the other.
        offsets: integer [n + 1]; label i is flat_ids[offsets[i]:offsets[i + 1]].

    Returns:
        int32 [n].
    """
    offsets = np.asarray(offsets, np.int64)
    flat_ids = np.asarray(flat_ids)
    # Running count of positions that equal their left neighbour, so that differences give the
    # repeats of any stretch; a label's first position must not look at the label before.
    repeats = np.zeros(flat_ids.size + 1, np.int64)
    np.cumsum(flat_ids[1:] == flat_ids[:-1], out=repeats[2:])
    start, end = offsets[:-1], offsets[1:]
    length = end - start
    inside = repeats[end] - repeats[np.minimum(start + 1, end)]
    return (length + np.where(length > 0, inside, 0)).astype(np.int32)
