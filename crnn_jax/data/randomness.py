"""Randomness of the data rooms: a function of (seed, purpose, indices) and of nothing else."""

import zlib

import numpy as np


def generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """A fresh generator for one purpose.

    Args:
        seed: of the run, any integer.
        purpose: a name, so that two uses of one seed draw nothing in common.
        *indices: epoch, window, sample, ... (>= 0).

    Returns:
        A Philox generator: the same numbers for the same arguments on every machine.
    """
    words = (seed & 0xFFFFFFFFFFFFFFFF, zlib.crc32(purpose.encode()), *indices)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))
