"""From images as they come to arrays of the network's height, and which are read together.

Every shape of a batch is one compilation (half a second to two), every padded column is work for
nothing. Images are taken from the widest to the narrowest; widths are rounded up to a few steps,
rows to powers of two.
"""

import dataclasses
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from crnn_jax.core.images import ImageSource, UnreadableImage, decode_image
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.reading.views import LEAST_ASPECT, View, as_given, views_of

PHOTO = 1000  # pixels of the shorter side from which an image can hardly be one word or line
MAX_THREADS = 4  # an image may take 150 MB while it is decoded
WORTH_THREADS = 8  # images

MAX_ROWS = 64  # a CPU is slower an image beyond: activations leave the cache
MAX_COLUMNS = 64 * 256  # rows x width of a batch, for memory with long text lines
MAX_STRETCH = 2  # the widest picture of a batch to the narrowest


class PhotoWarning(UserWarning):
    """An image looks like a whole photo, which no model here reads."""


class Prepared(NamedTuple):
    """An image as the network takes it, uint8 [h w c], and the view of the given one it shows."""

    image: np.ndarray
    view: View


def prepare_all(
    sources: Sequence[ImageSource], preprocessing: Preprocessing
) -> list[Prepared | UnreadableImage]:
    """Decodes and resizes; what cannot be read stands in its place as the error it raised."""
    return _in_threads(lambda source: _prepare(source, preprocessing), sources)


def prepare_views(
    sources: Sequence[ImageSource], preprocessing: Preprocessing
) -> list[list[Prepared]]:
    """Each image in the views it has beside what `prepare_all` gives; none if it is unreadable."""
    return _in_threads(lambda source: _prepare_views(source, preprocessing), sources)


def _in_threads(prepare: Callable[[ImageSource], Any], sources: Sequence[ImageSource]) -> list[Any]:
    if len(sources) < WORTH_THREADS:
        return [prepare(source) for source in sources]
    # Pillow decodes and resizes outside of Python's lock.
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        return list(pool.map(prepare, sources))


def _prepare_views(source: ImageSource, preprocessing: Preprocessing) -> list[Prepared]:
    try:
        decoded = decode_image(source, preprocessing.channels)
    except UnreadableImage:
        return []
    least = min(round(LEAST_ASPECT * preprocessing.height), preprocessing.max_width)
    wide = dataclasses.replace(preprocessing, min_width=max(preprocessing.min_width, least))
    found = []
    for view in views_of(*decoded.shape[:2]):
        pixels = view.render(decoded)
        rules = {rule.target_width(*pixels.shape[:2]): rule for rule in (wide, preprocessing)}
        if view.whole:  # as `prepare_all` gives it; narrow
            del rules[preprocessing.target_width(*pixels.shape[:2])]
        elif not view.angle:
            rules = {0: preprocessing}
        found += [Prepared(rule.resize(pixels), view) for rule in rules.values()]
    return found


def _prepare(source: ImageSource, preprocessing: Preprocessing) -> Prepared | UnreadableImage:
    try:
        decoded = decode_image(source, preprocessing.channels)
    except UnreadableImage as error:
        return error
    height, width = decoded.shape[:2]
    if min(height, width) >= PHOTO:
        what = os.fspath(source) if isinstance(source, str | os.PathLike) else "an image"
        warnings.warn(
            f"{what}: {width} x {height} pixels look like a whole photo; "
            "this reads one cropped word or line",
            PhotoWarning,
            stacklevel=2,
        )
    return Prepared(preprocessing.resize(decoded), as_given(height, width))


def list_images(named: str) -> list[str]:
    """A file's own path, or those of all images below a folder, sorted; UserError if none."""
    if not os.path.isdir(named):
        return [named]
    from crnn_jax.data.annotations import list_image_paths

    listing, odd = list_image_paths(named)
    return [os.path.join(named, name) for name in sorted([*listing.decode().split("\n"), *odd])]


def as_list(images: ImageSource | Iterable[ImageSource]) -> list[ImageSource]:
    """A list of images; a single one becomes a list of one: a path is no list of letters."""
    if isinstance(images, str | bytes | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim < 4 and images.dtype.kind not in "OU":
        return [images]
    return list(images)


class BatchPlan(NamedTuple):
    """One batch: the images' places in the list given, and the array's rows and width."""

    indices: tuple[int, ...]
    rows: int
    width: int

    def arrays(self, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """`image` uint8 [rows h width c], 0 in padding, and `width` int32 [rows] of the list."""
        height, _, channels = images[0].shape
        batch = np.zeros((self.rows, height, self.width, channels), np.uint8)
        width = np.zeros(self.rows, np.int32)
        for row, index in enumerate(self.indices):
            width[row] = images[index].shape[1]
            batch[row, :, : width[row]] = images[index]
        return {"image": batch, "width": width}


def padded_width(width: int) -> int:
    """The next step: multiples of 32 up to 256, of 64 up to 512, of 128 up to 1024, and so on.

    At most a quarter of a wide picture is padding, and 1024 pixels have 16 steps.
    """
    step = 32
    while width > 8 * step:
        step *= 2
    return -(-width // step) * step


def plan_batches(widths: Sequence[int], fixed_width: int = 0) -> list[BatchPlan]:
    """Groups images by their resized widths, in pixels; every index stands once.

    With a fixed width, for a model that has one, nothing is rounded. Rows behind the indices are
    filled with nothing.
    """
    order = sorted(range(len(widths)), key=lambda i: (-widths[i], i))
    plans, start = [], 0
    while start < len(order):
        widest = widths[order[start]]
        width = fixed_width or padded_width(widest)
        room = max(1, min(MAX_ROWS, MAX_COLUMNS // width))
        room = 1 << (room.bit_length() - 1)  # a power of two
        some = order[start : start + room]
        indices = tuple(i for i in some if widths[i] * MAX_STRETCH >= widest)
        start += len(indices)
        plans.append(BatchPlan(indices, 1 << (len(indices) - 1).bit_length(), width))
    return plans
