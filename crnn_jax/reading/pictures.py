"""From pictures as they come to arrays of the network's height, many at a time."""

import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

from crnn_jax.core.images import ImageSource, UnreadableImage, decode_image
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.annotations import list_pictures

PHOTO = 1000  # pixels of the shorter side from which a picture can hardly be one word or line
MAX_THREADS = 4  # a picture may take 150 MB while it is decoded
WORTH_THREADS = 8  # pictures


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
    listing, odd = list_pictures(named)
    return [os.path.join(named, name) for name in sorted([*listing.decode().split("\n"), *odd])]


def as_list(images: ImageSource | Iterable[ImageSource]) -> list[ImageSource]:
    """A list of pictures; a single one becomes a list of one: a path is no list of letters."""
    if isinstance(images, str | bytes | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim < 4:
        return [images]
    return list(images)
