"""What a beam search keeps in memory: flat arrays, made once for many pictures."""

from typing import Any, NamedTuple

import numba
import numpy as np


class Tree(NamedTuple):
    """Every prefix that was ever kept; node 0 is the empty text."""

    parent: Any  # int32 [nodes], -1 above the empty text
    last: Any  # int32 [nodes], class id, -1 of the empty text
    place: Any  # int32 [nodes], among the prefixes kept now; -1 where it is not
    trie: Any  # int32 [nodes], node of the lexicon
    state: Any  # int32 [nodes], of the language model
    extra: Any  # float64 [nodes], all of the score that is not log p
    keys: Any  # int64 [buckets], parent * k + class; -1 where the bucket is free
    values: Any  # int32 [buckets], the node


class Kept(NamedTuple):
    """The prefixes kept after a frame, best first."""

    node: Any  # int32 [width]
    blank: Any  # float64 [width], log p of the alignments that end in a blank
    same: Any  # float64 [width], log p of those that end in the last class
    total: Any  # float64 [width], of both
    score: Any  # float64 [width], total + extra


class Heap(NamedTuple):
    """The best candidates so far, see `bounded_heap`."""

    keys: Any  # float64
    items: Any  # int64


@numba.njit(nogil=True, cache=True)
def new_tree(nodes: int) -> Tree:
    """Room for so many nodes; the hash is at most half full."""
    buckets = 4
    while buckets < 2 * nodes:
        buckets *= 2
    return Tree(
        np.empty(nodes, np.int32),
        np.empty(nodes, np.int32),
        np.empty(nodes, np.int32),
        np.empty(nodes, np.int32),
        np.empty(nodes, np.int32),
        np.empty(nodes, np.float64),
        np.empty(buckets, np.int64),
        np.empty(buckets, np.int32),
    )


@numba.njit(nogil=True, cache=True)
def new_kept(width: int) -> Kept:
    """Room for so many prefixes."""
    return Kept(
        np.empty(width, np.int32),
        np.empty(width, np.float64),
        np.empty(width, np.float64),
        np.empty(width, np.float64),
        np.empty(width, np.float64),
    )


@numba.njit(nogil=True, cache=True)
def new_heap(size: int) -> Heap:
    """Room for so many candidates."""
    return Heap(np.empty(size, np.float64), np.empty(size, np.int64))
