"""How many frames (columns of logits) the network makes of a picture's width.

Two geometries: `keras` (CRNN.tf2's; ours) pads pools SAME and ends in a VALID 2x2 convolution,
T = ceil(W / 4) - 1; `torch` (crnn.pytorch's) floors at the first two pools and pads the width at
the last two, T = floor(floor(W / 2) / 2) + 1. Functions take Python ints, numpy or jax arrays
alike: they use + - * // and comparisons only.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from crnn_jax.core.errors import UserError

Width = TypeVar("Width", bound=Any)  # int, numpy or jax integer array


def _same(width: Width) -> Width:
    return width


def _half_up(width: Width) -> Width:
    return (width + 1) // 2


def _half_down(width: Width) -> Width:
    return width // 2


def _plus_one(width: Width) -> Width:
    # Nothing stays nothing: a masked row of width 0 must not grow a column out of padding.
    return (width + 1) * (width > 0)


def _minus_one(width: Width) -> Width:
    return (width - 1) * (width > 0)


LayerWidths = tuple[tuple[str, Callable[[Any], Any]], ...]

# One row a layer in the order of the network: its name and its width out of its width in.
LAYERS: dict[str, LayerWidths] = {
    "keras": (
        ("conv1", _same),
        ("pool1", _half_up),
        ("conv2", _same),
        ("pool2", _half_up),
        ("conv3", _same),
        ("conv4", _same),
        ("pool3", _same),
        ("conv5", _same),
        ("conv6", _same),
        ("pool4", _same),
        ("conv7", _minus_one),
    ),
    "torch": (
        ("conv1", _same),
        ("pool1", _half_down),
        ("conv2", _same),
        ("pool2", _half_down),
        ("conv3", _same),
        ("conv4", _same),
        ("pool3", _plus_one),
        ("conv5", _same),
        ("conv6", _same),
        ("pool4", _plus_one),
        ("conv7", _minus_one),
    ),
}
GEOMETRIES = tuple(LAYERS)


def layer_widths(width: Width, geometry: str) -> dict[str, Width]:
    """Width after each layer, by the layer's name.

    Args:
        width: real width of the resized picture in pixels, int or integer array of any shape.
        geometry: 'keras' or 'torch'.

    Raises:
        UserError: no such geometry.
    """
    if geometry not in LAYERS:
        raise UserError(f"geometry {geometry!r}: must be one of {' | '.join(GEOMETRIES)}")
    widths = {}
    for name, function in LAYERS[geometry]:
        width = function(width)
        widths[name] = width
    return widths


def num_frames(width: Width, geometry: str) -> Width:
    """Frames that a picture of this width gives: the time axis of its logits.

    Args:
        width: real width of the resized picture in pixels (>= 0), int or integer array.
        geometry: 'keras' or 'torch'.

    Returns:
        Of the same type and shape; 0 where the width is too small for the network.
    """
    return layer_widths(width, geometry)["conv7"]


def min_image_width(geometry: str) -> int:
    """The smallest width in pixels that gives at least one frame."""
    return width_for_frames(1, geometry)


def width_for_frames(frames: int, geometry: str) -> int:
    """The smallest width in pixels that gives at least so many frames."""
    width = 1
    while num_frames(width, geometry) < frames:
        width += 1
    return width


def frames_needed(ids: Sequence[int] | np.ndarray) -> int:
    """Frames that CTC needs for a label: its characters, and a blank between equal neighbours."""
    ids = np.asarray(ids)
    return int(ids.size + np.count_nonzero(ids[1:] == ids[:-1]))


def frames_needed_flat(flat_ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """`frames_needed` of many labels at once.

    Args:
        flat_ids: integer [sum of lengths], all labels one after the other.
        offsets: integer [n + 1]; label i is flat_ids[offsets[i]:offsets[i + 1]].

    Returns:
        int32 [n].
    """
    offsets = np.asarray(offsets, np.int64)
    flat_ids = np.asarray(flat_ids)
    # repeats[j] tells that flat_ids[j] equals its left neighbour; its running sum gives the
    # repeats of any stretch, and a label's first position must not look at the label before.
    repeats = np.zeros(flat_ids.size + 1, np.int64)
    np.cumsum(flat_ids[1:] == flat_ids[:-1], out=repeats[2:])
    start, end = offsets[:-1], offsets[1:]
    length = end - start
    inside = repeats[end] - repeats[np.minimum(start + 1, end)]
    return (length + np.where(length > 0, inside, 0)).astype(np.int32)
