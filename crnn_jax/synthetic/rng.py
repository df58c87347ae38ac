"""Random choices that are a pure function of (seed, purpose, index).

An `Rng` draws uniform numbers in blocks from a Philox generator and turns them into choices with
plain Python arithmetic: a layout needs about fifty choices, and fifty NumPy calls would cost more
than the layout itself.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np

# One stream a purpose: adding a choice to one of them does not move the others.
PURPOSES = ("text", "shape", "look", "texture", "stream")
BLOCK = 48  # numbers drawn at a time


def numpy_generator(seed: int, purpose: str, index: int) -> np.random.Generator:
    """The NumPy generator of (seed, purpose, index); any integers of at most 56 and 64 bits."""
    key = (PURPOSES.index(purpose) << 56) | (seed & ((1 << 56) - 1))
    return np.random.Generator(np.random.Philox(key=[key, index & ((1 << 64) - 1)]))


class Rng:
    """Choices from one stream, in the order in which they are asked for."""

    def __init__(self, seed: int, purpose: str, index: int):
        self._generator = numpy_generator(seed, purpose, index)
        self._numbers: list[float] = []

    def random(self) -> float:
        """Uniform in [0, 1)."""
        if not self._numbers:
            self._numbers = self._generator.random(BLOCK).tolist()
        return self._numbers.pop()

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.random() < probability

    def uniform(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * self.random()

    def integer(self, low: int, high: int) -> int:
        """Uniform integer in [low, high], both ends included."""
        return low + int((high - low + 1) * self.random())

    def normal(self, mean: float, deviation: float) -> float:
        """Normal, by Box and Muller's formula."""
        radius = math.sqrt(-2.0 * math.log(1.0 - self.random()))
        return mean + deviation * radius * math.cos(2.0 * math.pi * self.random())

    def noise(self, shape: tuple[int, ...]) -> np.ndarray:
        """float32 of this shape, standard normal."""
        return self._generator.standard_normal(shape, np.float32)

    def pick(self, items: Sequence[Any]) -> Any:
        """One item, all equally likely."""
        return items[int(len(items) * self.random())]

    def index(self, cumulative: Sequence[float]) -> int:
        """A position, with probabilities given by running sums of weights."""
        position = bisect_right(cumulative, self.random() * cumulative[-1])
        return min(position, len(cumulative) - 1)
