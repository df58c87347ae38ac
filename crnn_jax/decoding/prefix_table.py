"""From (parent, class) to the node of a prefix: an open hash in flat arrays, compiled by numba.

A key is parent * classes + class, compared in full: no two prefixes are ever taken for one.
"""

import numba
import numpy as np


@numba.njit(nogil=True, cache=True, inline="always")
def find(keys: np.ndarray, values: np.ndarray, key: int) -> int:
    """The node under a key, -1 where there is none."""
    bucket = _bucket(keys, key)
    return values[bucket] if keys[bucket] == key else -1


@numba.njit(nogil=True, cache=True, inline="always")
def insert(keys: np.ndarray, values: np.ndarray, key: int, node: int) -> None:
    """Puts a node under a key that is not there yet; a quarter of the table has to be free."""
    bucket = _bucket(keys, key)
    keys[bucket], values[bucket] = key, node


@numba.njit(nogil=True, cache=True, inline="always")
def _bucket(keys, key):
    """Where the key is, or else the free bucket (-1) where it would be."""
    mask = len(keys) - 1
    # Times 2 ** 64 / golden ratio: neighbouring keys are spread; the high bits are the best.
    bucket = ((key * -7046029254386353131) >> 29) & mask
    while keys[bucket] >= 0 and keys[bucket] != key:
        bucket = (bucket + 1) & mask
    return bucket
