"""How many frames (columns of logits) the network makes of an image's width.

Three geometries: `keras` (CRNN.tf2's; ours) pads pools SAME and ends in a VALID 2x2 convolution,
T = ceil(W / 4) - 1; `fine` has as many frames, but the third pool halves the width, not the second;
`torch` (crnn.pytorch's) floors at the first two pools and pads the width at the last two,
T = floor(floor(W / 2) / 2) + 1. Functions take Python ints, numpy or jax arrays alike: they use
+ - * // and comparisons only.
"""

import itertools
from typing import Any, TypeVar

import numpy as np

from crnn_jax.core.errors import UserError

HEIGHT = 32  # pixels; pools and the last convolution make one row of them

Width = TypeVar("Width", bound=Any)  # int, numpy or jax integer array

LAYERS = (
    "conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "pool3", "conv5", "conv6", "pool4",
    "conv7",
)  # fmt: skip

# Geometry -> horizontal stride of each pool; the vertical one is 2.
STRIDES = {
    "keras": {"pool1": 2, "pool2": 2, "pool3": 1, "pool4": 1},
    "torch": {"pool1": 2, "pool2": 2, "pool3": 1, "pool4": 1},
    "fine": {"pool1": 2, "pool2": 1, "pool3": 2, "pool4": 1},
}
GEOMETRIES = tuple(STRIDES)


def layer_widths(width: Width, geometry: str) -> dict[str, Width]:
    """Width after each layer, by the layer's name.

    Args:
        width: of the resized image in pixels, int or integer array of any shape.
        geometry: one of GEOMETRIES; another one is a UserError.
    """
    if geometry not in STRIDES:
        raise UserError(f"geometry {geometry!r}: must be one of {' | '.join(GEOMETRIES)}")
    widths, torch = {}, geometry == "torch"
    for name in LAYERS:
        stride = STRIDES[geometry].get(name)
        if stride == 2:
            width = width // 2 if torch else (width + 1) // 2
        elif stride and torch:
            width = (width + 1) * (width > 0)  # a masked row's width 0 must stay 0
        elif name == "conv7":
            width = (width - 1) * (width > 0)
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
