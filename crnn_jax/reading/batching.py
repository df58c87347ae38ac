"""Which pictures are read together, in how few array shapes.

Every shape is one compilation (half a second to two), every padded column is work for nothing.
Pictures are taken from the widest to the narrowest; widths are rounded up to a few steps, rows
to powers of two. The answer for a picture does not depend on its batch.
"""

from collections.abc import Sequence
from typing import NamedTuple

MAX_ROWS = 64  # a CPU is slower a picture beyond: activations leave the cache
MAX_COLUMNS = 64 * 256  # rows x width of a batch, for memory with long text lines
MAX_STRETCH = 2  # the widest picture of a batch to the narrowest


class BatchPlan(NamedTuple):
    """One batch: the pictures' places in the list given, and the array's rows and width."""

    indices: tuple[int, ...]
    rows: int
    width: int


def padded_width(width: int) -> int:
    """The next step: multiples of 32 up to 256, of 64 up to 512, of 128 up to 1024, and so on.

    At most a quarter of a wide picture is padding, and 1024 pixels have 16 steps.
    """
    step = 32
    while width > 8 * step:
        step *= 2
    return -(-width // step) * step


def plan_batches(widths: Sequence[int], fixed_width: int = 0) -> list[BatchPlan]:
    """Groups pictures.

    Args:
        widths: of the resized pictures in pixels.
        fixed_width: the one width of all, for a model that has one: nothing is rounded; else 0.

    Returns:
        Batches in which every index stands once; rows behind the indices are filled with nothing.
    """
    order = sorted(range(len(widths)), key=lambda i: (-widths[i], i))
    plans, start = [], 0
    while start < len(order):
        widest = widths[order[start]]
        width = fixed_width or padded_width(widest)
        room = max(1, min(MAX_ROWS, MAX_COLUMNS // width))
        indices = [
            i
            for i in order[start : start + _power_of_two_below(room)]
            if widths[i] * MAX_STRETCH >= widest
        ]
        start += len(indices)
        plans.append(BatchPlan(tuple(indices), _power_of_two_above(len(indices)), width))
    return plans


def _power_of_two_above(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _power_of_two_below(n: int) -> int:
    return 1 << (n.bit_length() - 1)
