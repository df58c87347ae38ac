"""From a decoded image to the network's input: one rule, stated in the model file.

Pillow's arithmetic is the definition for our own models. Images stay uint8 here; the network
normalises them on the device: input = (uint8 - mean) / scale. And the widths in pixels that suit a
set of images: those of its batches, and the most of all.
"""

import dataclasses
import math
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from crnn_jax.core.errors import UserError

MAX_HEIGHT = 1024  # an image of both takes 200 MB
MAX_WIDTH = 1 << 16
MOST_CELLS = 2048  # the search for boundaries takes the square of it
WIDEST = 4096  # pixels: 1,023 frames; a line of text of height 32 is rarely longer
SHAPES = 12  # widths of batches proposed, at most

Size = TypeVar("Size", int, np.ndarray)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input; an impossible value is a UserError."""

    channels: int = 1  # 1 (grey, Pillow's L) or 3 (RGB)
    height: int = 32  # pixels of the network's input
    width: int = 0  # pixels that every image is stretched or squeezed to; 0 (free) keeps the aspect
    min_width: int = 32  # narrower images are stretched to it (free width only)
    max_width: int = 1024  # wider images are squeezed to it (free width only)
    rounding: str = "round"  # of the free width: 'round' (half up) or 'floor'
    filter: str = "bilinear"  # the only resampling filter
    # Whether the filter covers all source pixels when it shrinks, as Pillow's does, or only the
    # nearest two, as in some imported models.
    antialias: bool = True
    mean: float = 127.5  # of the normalisation on the device, in grey levels 0 to 255
    scale: float = 127.5

    def __post_init__(self) -> None:
        free = self.min_width, self.max_width
        checks = {
            "channels": (self.channels in (1, 3), "1 (grey) or 3 (RGB)"),
            "height": (0 < self.height <= MAX_HEIGHT, f"1 to {MAX_HEIGHT:,} pixels"),
            "width": (0 <= self.width <= MAX_WIDTH, f"0 (free width) to {MAX_WIDTH:,} pixels"),
            "min_width": (0 < free[0] <= MAX_WIDTH, f"1 to {MAX_WIDTH:,} pixels"),
            "max_width": (free[0] <= free[1] <= MAX_WIDTH, f"min_width to {MAX_WIDTH:,} pixels"),
            "rounding": (self.rounding in ("round", "floor"), "round | floor"),
            "filter": (self.filter == "bilinear", "bilinear"),
            "mean": (math.isfinite(self.mean), "finite"),
            "scale": (0 < self.scale < math.inf, "positive and finite"),
        }
        for key, (correct, expected) in checks.items():
            if not correct:
                value = getattr(self, key)
                raise UserError(f"preprocessing.{key}={value!r:.60}: must be {expected}")

    @property
    def free_width(self) -> bool:
        """Whether images keep their own width (within bounds)."""
        return self.width == 0

    def natural_width(self, height: Size, width: Size) -> Size:
        """Width in pixels at `self.height` before the bounds; arguments as `target_width`."""
        if isinstance(height, np.ndarray) or isinstance(width, np.ndarray):
            height, width = np.asarray(height, np.int64), np.asarray(width, np.int64)
        scaled = width * self.height
        # Whole numbers only: every implementation of this rule must round the same way.
        if self.rounding == "floor":
            return scaled // height
        return (2 * scaled + height) // (2 * height)

    def target_width(self, height: Size, width: Size) -> Size:
        """Width in pixels that an image is resized to.

        Args:
            height, width: of the decoded image in pixels (> 0), both int or both integer
                arrays of one shape; the result is of that shape then (int64).
        """
        natural = self.natural_width(height, width)
        low, high = (self.width or self.min_width), (self.width or self.max_width)
        if isinstance(natural, np.ndarray):
            return np.clip(natural, low, high)
        return min(max(natural, low), high)

    def resize(self, image: np.ndarray) -> np.ndarray:
        """Resizes a decoded image, uint8 [h w 3] (RGB) or [h w 1].

        Returns:
            uint8 [height, target_width(h, w), channels].
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
            raise ValueError(f"want uint8 [h w 1|3], got {image.dtype} {list(image.shape)}")
        size = (self.target_width(*image.shape[:2]), self.height)
        source = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        source = source.convert("L" if self.channels == 1 else "RGB")
        if self.antialias:
            resized = np.array(source.resize(size, Image.Resampling.BILINEAR))
        else:
            resized = _sample(np.asarray(source), size)
        return resized.reshape(self.height, size[0], self.channels)

    def to_metadata(self) -> dict[str, Any]:
        """JSON-ready form, as a model file's metadata holds it under 'preprocessing'."""
        return dataclasses.asdict(self)

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> "Preprocessing":
        """The opposite of `to_metadata`; unknown keys are refused."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(metadata) - known)
        if unknown:
            raise UserError(f"preprocessing: unknown key {unknown[0]!r}; a newer model file?")
        for key, value in metadata.items():
            want = type(getattr(cls, key))
            if type(value) is not want and not (want is float and type(value) is int):
                raise UserError(
                    f"preprocessing.{key}={value!r:.60}: must be of type {want.__name__}"
                )
        return cls(**metadata)


def _sample(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear without antialiasing at half-pixel centres, as tf.image.resize and OpenCV."""
    sampled = image.astype(np.float64).reshape(image.shape[0], image.shape[1], -1)
    for axis, target in ((1, size[0]), (0, size[1])):
        source = sampled.shape[axis]
        at = (np.arange(target) + 0.5) * (source / target) - 0.5
        low = np.floor(at).astype(np.int64)
        share = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        left = np.take(sampled, np.clip(low, 0, source - 1), axis)
        right = np.take(sampled, np.clip(low + 1, 0, source - 1), axis)
        sampled = left + (right - left) * share
    return np.floor(sampled + 0.5).astype(np.uint8)


def propose_widths(natural: np.ndarray, rule: Preprocessing) -> tuple[int, ...]:
    """The bucket widths for images of these natural widths; the last squeezes hardly any."""
    most = max(propose_max_width(natural), rule.min_width)
    return propose_boundaries(np.clip(natural, rule.min_width, most), SHAPES)


def widened(rule: Preprocessing, natural: np.ndarray) -> Preprocessing:
    """The rule with its max_width grown to what images of these natural widths need."""
    if not rule.free_width or not natural.size:
        return rule
    widest = propose_widths(natural, rule)[-1]
    return dataclasses.replace(rule, max_width=max(rule.max_width, widest))


def propose_boundaries(widths: np.ndarray, count: int, multiple: int = 4) -> tuple[int, ...]:
    """The bucket widths that pad images of these widths least, by dynamic programming.

    There are at most `count`, each a shape to compile, and all multiples of `multiple` pixels.
    """
    widths = np.asarray(widths, np.int64)
    if not widths.size:
        return ()
    # Images of w pixels fit boundaries from their cell on; other cells need no boundary.
    cell, number = np.unique(-(-widths // multiple), return_counts=True)
    if cell.size > MOST_CELLS:
        return propose_boundaries(widths, count, 2 * multiple)
    up_to = np.concatenate(([0], np.cumsum(number)))
    # best[j]: total pixels of the first j cells in the buckets so far, the last of which ends at
    # cell j. Real pixels are the same everywhere, so the least total is the least padding.
    best = cell * up_to[1:]
    choices = []
    for _ in range(min(count, cell.size) - 1):
        # total[i, j]: the last bucket holds cells i + 1 .. j, the others end at cell i.
        total = best[:, None] + cell[None, :] * (up_to[None, 1:] - up_to[1:, None])
        total[np.tril_indices(cell.size, -1)] = np.iinfo(np.int64).max
        choices.append(total.argmin(axis=0))
        best = total.min(axis=0)
    j = cell.size - 1
    ends = {int(cell[j])}
    for choice in reversed(choices):
        j = int(choice[j])
        ends.add(int(cell[j]))
    return tuple(sorted(end * multiple for end in ends if end * multiple > 0))


def propose_max_width(widths: np.ndarray, multiple: int = 16) -> int:
    """A bound in pixels that squeezes at most one image in a thousand, or those beyond WIDEST."""
    ranked = np.sort(widths)
    most, widest = int(ranked[int(0.999 * ranked.size)]), int(ranked[-1])
    if widest <= 1.25 * most:  # all may as well fit
        most = widest
    return min(-(-most // multiple) * multiple, WIDEST)
