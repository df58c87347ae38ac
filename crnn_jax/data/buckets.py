"""Widths of batches: few shapes to compile, little padding."""

from collections.abc import Sequence

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing

MOST_CELLS = 2048  # the search for boundaries takes the square of it
WIDEST = 4096  # pixels: 1,023 frames; a line of text of height 32 is rarely longer


def bucket_widths(boundaries: Sequence[int], preprocessing: Preprocessing) -> tuple[int, ...]:
    """The widths in pixels that batches may have, in ascending order.

    Args:
        boundaries: as configured; any order.
        preprocessing: its fixed width is the only bucket; else its max_width is the last one.

    Raises:
        UserError: a boundary is beyond max_width: no picture would ever stand there.
    """
    if not preprocessing.free_width:
        return (preprocessing.width,)
    last = preprocessing.max_width
    for width in boundaries:
        if not 0 < width <= last:
            limit = f"preprocessing.max_width={last}"
            raise UserError(f"data.boundaries: {width} px; must lie between 1 and {limit}")
    return tuple(sorted({*boundaries, last}))


def propose_boundaries(widths: np.ndarray, count: int, multiple: int = 4) -> tuple[int, ...]:
    """The bucket widths that pad these pictures least, by dynamic programming.

    Args:
        widths: integer [n], widths in pixels after preprocessing (> 0).
        count: of buckets, at most: every one is a shape to compile.
        multiple: boundaries are multiples of so many pixels; 4 are one frame.

    Returns:
        Ascending boundaries in pixels; the last one holds the widest picture.
    """
    widths = np.asarray(widths, np.int64)
    if not widths.size:
        return ()
    # a picture of w pixels fits boundaries from its cell on; a boundary where none ends is no help
    cell, number = np.unique(-(-widths // multiple), return_counts=True)
    if cell.size > MOST_CELLS:
        return propose_boundaries(widths, count, 2 * multiple)
    up_to = np.concatenate(([0], np.cumsum(number)))
    # cost[k, j]: total pixels where the first j cells are held by k + 1 buckets, the last of
    # which ends at cell j. Real pixels are the same everywhere, so least total is least padding.
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
    """A bound in pixels that squeezes at most one picture in a thousand, or those beyond WIDEST.

    Args:
        widths: integer [n], n > 0, widths in pixels at the network's height.
        multiple: the bound is a multiple of so many pixels.
    """
    ranked = np.sort(widths)
    most, widest = int(ranked[int(0.999 * ranked.size)]), int(ranked[-1])
    if widest <= 1.25 * most:  # then all of them may as well fit
        most = widest
    return min(-(-most // multiple) * multiple, WIDEST)
