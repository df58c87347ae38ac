"""The best n of many, in order: a bounded heap in flat arrays, compiled by numba.

Keys lie in one array, what they belong to in another. While candidates come, the smallest kept key
is at index 0, so that a candidate that is no better is refused by one comparison.
"""

import numba
import numpy as np


@numba.njit(nogil=True, cache=True, inline="always")
def offer(keys: np.ndarray, items: np.ndarray, size: int, limit: int, key: float, item: int) -> int:
    """Keeps (key, item) if it is among the best `limit`; returns how many are kept now.

    A candidate that only equals the smallest kept one is refused: the earlier one stays.
    """
    if size < limit:
        place = size
        while place > 0:
            above = (place - 1) >> 1
            if keys[above] <= key:
                break
            keys[place] = keys[above]
            items[place] = items[above]
            place = above
        keys[place] = key
        items[place] = item
        return size + 1
    if limit > 0 and key > keys[0]:
        _sink(keys, items, size, key, item)
    return size


@numba.njit(nogil=True, cache=True, inline="always")
def sort_descending(keys: np.ndarray, items: np.ndarray, size: int) -> None:
    """Turns the heap into a list, best first."""
    for end in range(size - 1, 0, -1):
        key, item = keys[end], items[end]
        keys[end], items[end] = keys[0], items[0]
        _sink(keys, items, end, key, item)


@numba.njit(nogil=True, cache=True, inline="always")
def _sink(keys, items, size, key, item):
    """Puts (key, item) in the place of the smallest, which is given up."""
    place = 0
    while True:
        below = 2 * place + 1
        if below >= size:
            break
        if below + 1 < size and keys[below + 1] < keys[below]:
            below += 1
        if keys[below] >= key:
            break
        keys[place] = keys[below]
        items[place] = items[below]
        place = below
    keys[place] = key
    items[place] = item
