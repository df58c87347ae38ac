"""Small changes to real images, so that a small set teaches more than its own images.

What an augmentation does to an image, uint8 [h w c], depends on its generator alone: a resumed run
sees the same images. Sizes stay, or plans would change.
"""

import functools
from types import SimpleNamespace

import cv2
import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.data.loader import Augment
from crnn_jax.synthetic.camera import jpeg

# How far images change, light and strong; lengths are in heights of the image, levels in grey
# levels, and all but shares and what is said to be the most are standard deviations.
_TABLE = {
    "shape_share": (0.7, 0.9),  # of images that are warped
    "rotation": (1.2, 3.5),  # degrees
    "shear": (0.05, 0.15),  # of its tangent
    "zoom": (0.03, 0.07),  # of the log of the scale, each axis for itself
    "shift": (0.02, 0.04),
    "corners": (0.012, 0.04),  # of each corner: perspective
    "contrast": (0.12, 0.30),  # of its log
    "brightness": (8.0, 20.0),  # levels
    "gamma": (0.10, 0.3),  # of its log
    "invert_share": (0.0, 0.1),
    "blur_share": (0.15, 0.35),
    "blur": (1.0, 2.0),  # most, as a share of a thirtieth of the height
    "coarse_share": (0.1, 0.3),  # of images that lose resolution
    "noise_share": (0.2, 0.4),
    "noise": (6.0, 16.0),  # levels, most
    "jpeg_share": (0.15, 0.35),
    "jpeg": (55, 25),  # worst quality
}
STRENGTHS = {
    name: SimpleNamespace(**{key: values[k] for key, values in _TABLE.items()})
    for k, name in enumerate(("light", "strong"))
}


def named(name: str) -> Augment:
    """The augmentation of this name, 'light' or 'strong': a pure function that can be pickled."""
    if name not in STRENGTHS:
        raise UserError(f"data.augment={name!r}: none, {' or '.join(STRENGTHS)} is expected")
    return functools.partial(_augmented, s=STRENGTHS[name])


def _augmented(image: np.ndarray, generator: np.random.Generator, s: SimpleNamespace) -> np.ndarray:
    """Warp, then light, then camera and file; the image itself is left as it is."""
    height, width, channels = image.shape
    if min(height, width) < 4:  # nothing to see, nothing to change
        return image
    chance = generator.random(7)
    changed = _warped(image, s, generator) if chance[0] < s.shape_share else image
    changed = _relit(changed.reshape(height, width, channels), s, generator)
    if chance[1] < s.invert_share:
        changed = 255.0 - changed
    if chance[2] < s.blur_share:
        sigma = generator.uniform(0.2, s.blur) * height / 30.0
        changed = cv2.GaussianBlur(changed, (0, 0), sigma)
    if chance[3] < s.coarse_share and height > 16:
        share = max(generator.uniform(0.35, 0.9), 12.0 / height)
        size = (max(4, round(width * share)), max(4, round(height * share)))
        coarse = cv2.resize(changed, size, interpolation=cv2.INTER_AREA)
        changed = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    changed = changed.reshape(height, width, channels)
    if chance[4] < s.noise_share:
        grain = generator.standard_normal(changed.shape, np.float32)
        changed = changed + grain * np.float32(generator.uniform(1.0, s.noise))
    result = np.clip(changed + 0.5, 0.0, 255.0).astype(np.uint8)
    if chance[5] < s.jpeg_share:
        result = jpeg(result, int(generator.integers(s.jpeg, 91)))
    return np.ascontiguousarray(result)


def _warped(image: np.ndarray, s: SimpleNamespace, generator: np.random.Generator) -> np.ndarray:
    """One homography of rotation, shear, zoom, shift and perspective about the middle."""
    height, width = image.shape[:2]
    turn, shear, wide, high, *rest = np.clip(generator.standard_normal(14), -2.0, 2.0)
    turn = np.deg2rad(s.rotation) * turn
    # long lines turn less: their ends must stay in the image
    turn *= min(1.0, 4.0 * height / width)
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
    middle = np.array([width / 2, height / 2])
    scale = np.exp(s.zoom * np.array([wide, high]))
    moved = (corners - middle) * scale
    moved[:, 0] += s.shear * shear * moved[:, 1]
    cos, sin = np.cos(turn), np.sin(turn)
    moved = moved @ np.array([[cos, sin], [-sin, cos]]) + middle
    moved += height * s.shift * np.array(rest[:2])
    moved += height * s.corners * np.array(rest[2:]).reshape(4, 2)
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), moved.astype(np.float32))
    return cv2.warpPerspective(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _relit(image: np.ndarray, s: SimpleNamespace, generator: np.random.Generator) -> np.ndarray:
    """float32 [h w c] of another contrast, brightness and gamma."""
    contrast, brightness, gamma = np.clip(generator.standard_normal(3), -2.0, 2.0)
    lit = image.astype(np.float32)
    mean = lit.mean()
    lit = mean + (lit - mean) * np.float32(np.exp(s.contrast * contrast))
    lit = np.clip(lit + np.float32(s.brightness * brightness), 0.0, 255.0)
    return 255.0 * (lit / 255.0) ** np.float32(np.exp(s.gamma * gamma))
