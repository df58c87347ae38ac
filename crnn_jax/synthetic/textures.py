"""Surfaces behind and inside letters: a small bank, made from noise by a fixed seed.

The bank stands for the photographs that MJSynth blends in; nothing here was ever photographed.
Each surface is float32 [TALL WIDE] with mean 0 and standard deviation 1.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np

from crnn_jax.synthetic.dice import Dice, generator

TALL, WIDE = 192, 640  # a crop of any picture fits in
COUNT = 48


@functools.cache
def bank() -> np.ndarray:
    """All surfaces, float32 [COUNT TALL WIDE]."""
    made = [_KINDS[n % len(_KINDS)](generator(0, "texture", n)) for n in range(COUNT)]
    surfaces = np.stack(made).astype(np.float32)
    surfaces -= surfaces.mean((1, 2), keepdims=True)
    surfaces /= surfaces.std((1, 2), keepdims=True)
    return np.clip(surfaces, -3.0, 3.0)


def crop(dice: Dice, height: int, width: int) -> np.ndarray:
    """float32 [height width], a random part of a random surface, mirrored or stretched at times."""
    surface = bank()[dice.integer(0, COUNT - 1)]
    zoom = dice.uniform(0.5, 1.5)
    high = min(TALL, max(4, int(height * zoom)))
    wide = min(WIDE, max(4, int(width * zoom)))
    top, left = dice.integer(0, TALL - high), dice.integer(0, WIDE - wide)
    part = surface[top : top + high, left : left + wide]
    if dice.chance(0.5):
        part = part[::-1]
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)


def _clouds(rng: np.random.Generator) -> np.ndarray:
    """Noise of all sizes: plaster, stone, cloth, sky."""
    total = np.zeros((TALL, WIDE))
    fall = rng.uniform(0.35, 0.8)
    stretch = 2.0 ** rng.uniform(-2, 2)
    for octave in range(6):
        cells = 2 ** (octave + 1)
        size = (max(2, int(cells * 3 * stretch)), max(2, cells))
        noise = rng.standard_normal((size[1], size[0]))
        total += fall**octave * cv2.resize(noise, (WIDE, TALL), interpolation=cv2.INTER_CUBIC)
    return total


def _grain(rng: np.random.Generator) -> np.ndarray:
    """Rough surfaces: concrete, asphalt, paper, brushed metal."""
    noise = rng.standard_normal((TALL, WIDE))
    sizes = rng.uniform(0.6, 2.5), rng.uniform(0.6, 2.5) * (6 if rng.random() < 0.4 else 1)
    return cv2.GaussianBlur(noise, (0, 0), sigmaX=sizes[1], sigmaY=sizes[0])


def _bars(rng: np.random.Generator) -> np.ndarray:
    """Stripes, slats, corrugated sheets, at any angle."""
    y, x = np.mgrid[:TALL, :WIDE]
    angle = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)])
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / rng.uniform(6, 40))
    return np.tanh(wave * rng.uniform(0.5, 6)) + 0.3 * _grain(rng)


def _bricks(rng: np.random.Generator) -> np.ndarray:
    """Bricks and tiles."""
    high, wide = int(rng.integers(8, 24)), int(rng.integers(16, 50))
    picture = np.zeros((TALL, WIDE))
    for row in range(0, TALL, high):
        shift = (row // high % 2) * wide // 2
        for left in range(-shift, WIDE, wide):
            picture[row : row + high - 1, max(0, left) : max(0, left + wide - 1)] = rng.normal(
                2.0, 0.5
            )
    return picture + 0.4 * _grain(rng)


def _blobs(rng: np.random.Generator) -> np.ndarray:
    """Leaves, people, goods: shapes of even colour over each other."""
    picture = np.zeros((TALL, WIDE))
    for _ in range(int(rng.integers(30, 160))):
        centre = (int(rng.integers(0, WIDE)), int(rng.integers(0, TALL)))
        axes = (int(rng.integers(3, 60)), int(rng.integers(3, 40)))
        colour = float(rng.normal())
        if rng.random() < 0.6:
            cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
        else:
            far = (centre[0] + axes[0], centre[1] + axes[1])
            cv2.rectangle(picture, centre, far, colour, -1)
    return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 3.0))


def _scribble(rng: np.random.Generator) -> np.ndarray:
    """Lines in all directions: branches, cables, scratches, writing."""
    picture = np.zeros((TALL, WIDE))
    for _ in range(int(rng.integers(20, 120))):
        start = rng.uniform((0, 0), (WIDE, TALL))
        path = start + np.cumsum(rng.normal(0, 12, (8, 2)), 0)
        colour, thick = float(rng.normal()), int(rng.integers(1, 4))
        cv2.polylines(
            picture, [path.astype(np.int32)], isClosed=False, color=colour, thickness=thick
        )
    return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 1.5))


_KINDS = (_clouds, _grain, _bars, _clouds, _bricks, _blobs, _grain, _scribble)
