"""A picture small enough for hundreds of them to fit into a page."""

import base64
import io
from typing import NamedTuple

from PIL import Image, ImageChops

from crnn_jax.core.images import ImageSource, UnreadableImage, decode_image

HEIGHT = 64  # pixels on the page
WIDTH = 720  # a text line is squeezed into this
TALL = 2  # times HEIGHT at most where the picture is higher than wide
QUALITY = 75


class Thumbnail(NamedTuple):
    """A picture on the page.

    Attributes:
        uri: `data:image/jpeg;base64,...`.
        width, height: on the page, in CSS pixels.
        given_width: of the picture itself, in its pixels.
    """

    uri: str
    width: int
    height: int
    given_width: int


def thumbnail(source: ImageSource) -> Thumbnail | None:
    """The thumbnail of a picture; None where there is nothing to show."""
    try:
        picture = Image.fromarray(decode_image(source, 3))
    except UnreadableImage:
        return None
    given_width, given_height = picture.size
    height = HEIGHT * min(max(given_height / given_width, 1), TALL)
    scale = min(height / given_height, WIDTH / given_width)
    size = (max(round(given_width * scale), 1), max(round(given_height * scale), 1))
    if size[0] < given_width:  # never larger than it is: the browser does that
        picture = picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    stream = io.BytesIO()
    grey = picture.convert("L")
    # Grey pictures, the most of them, are a third smaller without colours that say nothing.
    is_grey = all(low == high == 0 for low, high in _colour_range(picture))
    (grey if is_grey else picture).save(stream, "JPEG", quality=QUALITY, optimize=True)
    encoded = base64.b64encode(stream.getvalue()).decode()
    return Thumbnail(f"data:image/jpeg;base64,{encoded}", *size, given_width)


def _colour_range(picture: Image.Image) -> list[tuple[int, int]]:
    """(lowest, highest) of |red - green| and |green - blue|."""
    red, green, blue = picture.split()
    pairs = ((red, green), (green, blue))
    extrema = [ImageChops.difference(a, b).getextrema() for a, b in pairs]
    return [(int(low), int(high)) for low, high in extrema]  # type: ignore[arg-type]
