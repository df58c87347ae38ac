"""From pictures as they come to arrays of the network's height, and which are read together.

Every shape of a batch is one compilation (half a second to two), every padded column is work for
nothing. Pictures are taken from the widest to the narrowest; widths are rounded up to a few steps,
rows to powers of two. The answer for a picture does not depend on its batch.
"""

import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

from crnn_jax.core.images import ImageSource, UnreadableImage, decode_image
from crnn_jax.core.preprocessing import Preprocessing

PHOTO = 1000  # pixels of the shorter side from which a picture can hardly be one word or line
MAX_THREADS = 4  # a picture may take 150 MB while it is decoded
WORTH_THREADS = 8  # pictures

MAX_ROWS = 64  # a CPU is slower a picture beyond: activations leave the cache
MAX_COLUMNS = 64 * 256  # rows x width of a batch, for memory with long text lines
MAX_STRETCH = 2  # the widest picture of a batch to the narrowest


class PhotoWarning(UserWarning):
    """A picture looks like a whole photo, which no model here reads."""


class Prepared(NamedTuple):
    """A picture as the network takes it, uint8 [h w c], and its width in pixels as given."""

    image: np.ndarray
    given_width: int


def prepare_all(
    sources: Sequence[ImageSource], preprocessing: Preprocessing
) -> list[Prepared | UnreadableImage]:
    """Decodes and resizes; what cannot be read stands in its place as the error it raised.

    A `PhotoWarning` tells of pictures that look like a whole photo.
    """
    if len(sources) < WORTH_THREADS:
        return [prepare(source, preprocessing) for source in sources]
    # Pillow decodes and resizes outside of Python's lock.
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda source: prepare(source, preprocessing), sources))


def prepare(source: ImageSource, preprocessing: Preprocessing) -> Prepared | UnreadableImage:
    """One picture of `prepare_all`."""
    try:
        decoded = decode_image(source, preprocessing.channels)
    except UnreadableImage as error:
        return error
    height, width = decoded.shape[:2]
    if min(height, width) >= PHOTO:
        what = os.fspath(source) if isinstance(source, str | os.PathLike) else "a picture"
        warnings.warn(
            f"{what}: {width} x {height} pixels look like a whole photo; "
            "this reads one cropped word or line",
            PhotoWarning,
            stacklevel=2,
        )
    return Prepared(preprocessing.resize(decoded), width)


def list_images(named: str) -> list[str]:
    """A file's own path, or those of all pictures below a folder, sorted.

    Raises:
        UserError: a folder without pictures.
    """
    if not os.path.isdir(named):
        return [named]
    from crnn_jax.data.annotations import list_pictures

    listing, odd = list_pictures(named)
    return [os.path.join(named, name) for name in sorted([*listing.decode().split("\n"), *odd])]


def as_list(images: ImageSource | Iterable[ImageSource]) -> list[ImageSource]:
    """A list of pictures; a single one becomes a list of one: a path is no list of letters."""
    if isinstance(images, str | bytes | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim < 4:
        return [images]
    return list(images)


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
