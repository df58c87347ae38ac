"""Surfaces behind and inside letters: a small bank, made from noise by a fixed seed.

The bank stands for the photographs that MJSynth blends in; nothing here was ever photographed.
Each surface is float32 [TALL WIDE] with mean 0 and standard deviation 1.
"""

import functools

import cv2
import numpy as np

from crnn_jax.synthetic.rng import Rng, numpy_generator

TALL, WIDE = 192, 640  # a crop of any image fits in
COUNT = 48


@functools.cache
def bank() -> np.ndarray:
    """All surfaces, float32 [COUNT TALL WIDE]."""
    made = [_KINDS[n % len(_KINDS)](numpy_generator(0, "texture", n)) for n in range(COUNT)]
    surfaces = np.stack(made).astype(np.float32)
    surfaces -= surfaces.mean((1, 2), keepdims=True)
    surfaces /= surfaces.std((1, 2), keepdims=True)
    return np.clip(surfaces, -3.0, 3.0)


def crop(rng: Rng, height: int, width: int) -> np.ndarray:
    """float32 [height width], a random part of a random surface, mirrored or stretched at times."""
    surface = bank()[rng.integer(0, COUNT - 1)]
    zoom = rng.uniform(0.5, 1.5)
    high = min(TALL, max(4, int(height * zoom)))
    wide = min(WIDE, max(4, int(width * zoom)))
    top, left = rng.integer(0, TALL - high), rng.integer(0, WIDE - wide)
    part = surface[top : top + high, left : left + wide]
    if rng.chance(0.5):
        part = part[::-1]
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)


def _clouds(generator: np.random.Generator) -> np.ndarray:
    """Noise of all sizes: plaster, stone, cloth, sky."""
    total = np.zeros((TALL, WIDE))
    fall = generator.uniform(0.35, 0.8)
    stretch = 2.0 ** generator.uniform(-2, 2)
    for octave in range(6):
        cells = 2 ** (octave + 1)
        size = (max(2, int(cells * 3 * stretch)), max(2, cells))
        noise = generator.standard_normal((size[1], size[0]))
        total += fall**octave * cv2.resize(noise, (WIDE, TALL), interpolation=cv2.INTER_CUBIC)
    return total


def _grain(generator: np.random.Generator) -> np.ndarray:
    """Rough surfaces: concrete, asphalt, paper, brushed metal."""
    noise = generator.standard_normal((TALL, WIDE))
    high, wide = generator.uniform(0.6, 2.5), generator.uniform(0.6, 2.5)
    wide *= 6 if generator.random() < 0.4 else 1
    return cv2.GaussianBlur(noise, (0, 0), sigmaX=wide, sigmaY=high)


def _bars(generator: np.random.Generator) -> np.ndarray:
    """Stripes, slats, corrugated sheets, at any angle."""
    y, x = np.mgrid[:TALL, :WIDE]
    angle = generator.choice([0.0, np.pi / 2, generator.uniform(0, np.pi)])
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / generator.uniform(6, 40))
    return np.tanh(wave * generator.uniform(0.5, 6)) + 0.3 * _grain(generator)


def _bricks(generator: np.random.Generator) -> np.ndarray:
    """Bricks and tiles."""
    high, wide = int(generator.integers(8, 24)), int(generator.integers(16, 50))
    surface = np.zeros((TALL, WIDE))
    for row in range(0, TALL, high):
        shift = (row // high % 2) * wide // 2
        for left in range(-shift, WIDE, wide):
            brick = surface[row : row + high - 1, max(0, left) : max(0, left + wide - 1)]
            brick[:] = generator.normal(2.0, 0.5)
    return surface + 0.4 * _grain(generator)


def _blobs(generator: np.random.Generator) -> np.ndarray:
    """Leaves, people, goods: shapes of even colour over each other."""
    surface = np.zeros((TALL, WIDE))
    for _ in range(int(generator.integers(30, 160))):
        centre = (int(generator.integers(0, WIDE)), int(generator.integers(0, TALL)))
        axes = (int(generator.integers(3, 60)), int(generator.integers(3, 40)))
        colour = float(generator.normal())
        if generator.random() < 0.6:
            cv2.ellipse(surface, centre, axes, float(generator.uniform(0, 180)), 0, 360, colour, -1)
        else:
            far = (centre[0] + axes[0], centre[1] + axes[1])
            cv2.rectangle(surface, centre, far, colour, -1)
    return cv2.GaussianBlur(surface, (0, 0), generator.uniform(0.5, 3.0))


def _scribble(generator: np.random.Generator) -> np.ndarray:
    """Lines in all directions: branches, cables, scratches, writing."""
    surface = np.zeros((TALL, WIDE))
    for _ in range(int(generator.integers(20, 120))):
        start = generator.uniform((0, 0), (WIDE, TALL))
        path = (start + np.cumsum(generator.normal(0, 12, (8, 2)), 0)).astype(np.int32)
        colour, thick = float(generator.normal()), int(generator.integers(1, 4))
        cv2.polylines(surface, [path], isClosed=False, color=colour, thickness=thick)
    return cv2.GaussianBlur(surface, (0, 0), generator.uniform(0.5, 1.5))


_KINDS = (_clouds, _grain, _bars, _clouds, _bricks, _blobs, _grain, _scribble)
