"""Views of an image: one that is read unsurely is read in several, which agree on a text.

    for view in views_of(*image.shape[:2]):
        pixels = view.render(image)  # uint8 [h w c]
        view.columns(spans)  # columns of the view -> columns of the image
    choose(texts, confidences)  # the place of the reading to take

Every image has its frames: wider, narrower, and wider with less or more above and below. A word
whose upright box is narrow for its height is slanted, curved, turned or has narrow letters, and too
few columns for them. Its further views: as it is; turned by a quarter either way where it is
clearly tall; and, at a few angles, the word that would have the image as its upright box, turned
level and cut out. Where one of these is narrow itself, it is read stretched too. What each gains,
and how the numbers here were chosen: experiments/views/README.md.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

# Share of the height that is cut off (or added: below 0) above and below, and the width as a
# multiple of the image's.
FRAMES = ((0.0, 1.3), (0.0, 0.8), (0.1, 1.25), (-0.1, 1.2))
LEAST_ASPECT = 2.5  # width / height: narrower images have further views, and are stretched to it
TALL = 1.25  # height / width from which quarter turns are tried
ANGLES = (-15.0, -8.0, 8.0, 15.0)  # degrees at which a word may lie in its box
SURE = 0.9  # confidence from which an image's first reading stands
LEAST_GAIN = 1e-4  # by which views have to be more probable: rounding must not choose

# Of the word that would fill its box at an angle: its height at least this share of the box's,
# its length at least so many heights; and how much more is cut out, as boxes are not exact.
LEAST_HEIGHT, LEAST_LENGTH = 0.2, 0.8
MORE_LENGTH, MORE_HEIGHT = 1.02, 1.1
LEAST_SIZE = 8  # pixels of a view's sides
FINE = 128  # pixels: an image with sides twice as long is reduced, which makes large ones quick


class View(NamedTuple):
    """A rectangle of an image, turned level or drawn to another width."""

    angle: float  # degrees by which the image is turned, counter-clockwise
    size: tuple[int, int]  # width, height in pixels
    # (a, b, c, d, e, f): the point (x, y) of the view is (a x + b y + c, d x + e y + f) of the
    # image. Points lie between pixels: the first pixel's centre is (0.5, 0.5).
    to_image: tuple[float, ...]
    given: tuple[int, int]  # width, height of the image

    @property
    def whole(self) -> bool:
        """The image as it is."""
        return not self.angle and self.size == self.given

    def render(self, image: np.ndarray) -> np.ndarray:
        """The view's pixels, uint8 [h w c], of the image, which is uint8 [h w 1|3]."""
        if self.whole:
            return image
        source = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        factor = _reduction(*self.given)
        source = source.reduce(factor)
        pixels = np.asarray(source).reshape(-1, image.shape[2])
        turned = source.transform(
            self.size,
            Image.Transform.AFFINE,
            tuple(x / factor for x in self.to_image),
            Image.Resampling.BILINEAR,
            fillcolor=tuple(np.median(pixels, axis=0).astype(int).tolist()),
        )
        return np.asarray(turned).reshape(self.size[1], self.size[0], image.shape[2])

    def columns(self, spans: np.ndarray) -> np.ndarray:
        """Columns of the image that columns of the view cover: float [n, 2] both, [x0, x1).

        What the corners of the view's columns enclose, within the image.
        """
        a, b, c = self.to_image[:3]
        y = np.array([0.0, self.size[1]])
        corners = a * spans[:, :, None] + b * y + c  # --> [n, 2, 2]
        corners = np.clip(corners.reshape(len(spans), 4), 0, self.given[0])
        return np.stack([corners.min(axis=1), corners.max(axis=1)], axis=1)


def as_given(height: int, width: int) -> View:
    """The view that an image of this size is."""
    return View(0.0, (width, height), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (width, height))


def views_of(height: int, width: int) -> list[View]:
    """The views of an image of this size, in pixels; of a narrow one first itself, to stretch."""
    frames = [_frame(height, width, *frame) for frame in FRAMES]
    if width >= LEAST_ASPECT * height:
        return frames
    found = [as_given(height, width), *frames]
    if height >= TALL * width:
        found += [_turned(height, width, angle, height, width) for angle in (90.0, -90.0)]
    for angle in ANGLES:
        # The upright box of a word l long and t tall is l cos + t sin wide, l sin + t cos high.
        turn = math.radians(abs(angle))
        cos, sin = math.cos(turn), math.sin(turn)
        length = (width * cos - height * sin) / math.cos(2 * turn)
        tall = (height * cos - width * sin) / math.cos(2 * turn)
        if tall >= LEAST_HEIGHT * height and length >= LEAST_LENGTH * tall:
            found.append(_turned(height, width, angle, MORE_LENGTH * length, MORE_HEIGHT * tall))
    return found


def choose(texts: Sequence[str], confidences: Sequence[float]) -> int:
    """The place of the reading to take of an image's, the plain one first.

    It is the surest reading of the text whose two surest readings are the surest together: a text
    on which two views agree may be taken before one that a single view is surer of.
    """
    sure = [confidences[0] * (1 + LEAST_GAIN), *confidences[1:]]
    places: dict[str, list[int]] = {}
    for place in sorted(range(len(sure)), key=sure.__getitem__, reverse=True):
        places.setdefault(texts[place], []).append(place)
    return max(places.values(), key=lambda same: sum(sure[i] for i in same[:2]))[0]


def _frame(height: int, width: int, cut: float, wider: float) -> View:
    """The image without this share of its height above and below, so many times as wide."""
    factor, tall = _reduction(width, height), (1 - 2 * cut) * height
    size = max(LEAST_SIZE, round(width * wider / factor)), max(LEAST_SIZE, round(tall / factor))
    to_image = (width / size[0], 0.0, 0.0, 0.0, tall / size[1], cut * height)
    return View(0.0, size, to_image, (width, height))


def _turned(height: int, width: int, angle: float, length: float, tall: float) -> View:
    """The rectangle of these sides, in pixels of the image, around the middle of the image."""
    factor = _reduction(width, height)
    size = max(LEAST_SIZE, round(length / factor)), max(LEAST_SIZE, round(tall / factor))
    turn = math.radians(angle)
    # Without what rounding leaves, quarters move pixels as they are.
    cos, sin = factor * round(math.cos(turn), 12), factor * round(math.sin(turn), 12)
    left = width / 2 - (cos * size[0] - sin * size[1]) / 2
    top = height / 2 - (sin * size[0] + cos * size[1]) / 2
    return View(angle, size, (cos, -sin, left, sin, cos, top), (width, height))


def _reduction(width: int, height: int) -> int:
    """By how much an image is reduced before it is turned."""
    return max(1, min(width, height) // FINE)
