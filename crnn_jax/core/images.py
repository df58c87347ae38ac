"""Images as they come -> uint8 arrays. Pillow decodes; this module settles what it leaves open.

16-bit levels keep their high byte (Pillow's own conversion clips them), palettes and CMYK become
RGB, transparency is laid on white, or on black if the opaque part is bright, an animation gives
its first frame, EXIF orientation is applied, and more than 50 megapixels are refused undecoded.
"""

import io
import os
import stat
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from crnn_jax.core.errors import UserError

MAX_PIXELS = 50_000_000

# What an unreadable image is counted under.
MISSING = "missing file"
NO_FILE = "not a file"
NO_ACCESS = "no permission to read"
EMPTY = "empty file"
NO_IMAGE = "not an image"
DAMAGED = "damaged or truncated image"
TOO_LARGE = "over 50 megapixels"
BAD_ARRAY = "not an array of pixels"
REASONS = (MISSING, NO_FILE, NO_ACCESS, EMPTY, NO_IMAGE, DAMAGED, TOO_LARGE, BAD_ARRAY)

# Raster formats only: Pillow's EPS and WMF readers start other programs.
_FORMATS = ["PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "MPO"]
_FORMATS += ["JPEG2000", "AVIF", "TGA", "ICO", "DIB", "PCX", "SGI", "PSD"]
REASON_OF = {
    FileNotFoundError: MISSING,
    NotADirectoryError: NO_FILE,
    PermissionError: NO_ACCESS,
    Image.DecompressionBombError: TOO_LARGE,
    Image.DecompressionBombWarning: TOO_LARGE,
}

_TURN = Image.Transpose
_TURNS = {  # EXIF's orientation -> what turns the image upright
    2: _TURN.FLIP_LEFT_RIGHT, 3: _TURN.ROTATE_180, 4: _TURN.FLIP_TOP_BOTTOM, 5: _TURN.TRANSPOSE,
    6: _TURN.ROTATE_270, 7: _TURN.TRANSVERSE, 8: _TURN.ROTATE_90,
}  # fmt: skip

_EXIF_KEYS = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}

ImageSource = str | os.PathLike[str] | bytes | Image.Image | np.ndarray


class UnreadableImage(UserError):
    """An image that cannot be read; `reason` is one of `REASONS`, to be counted by."""

    def __init__(self, reason: str, source: Any = None) -> None:
        named = isinstance(source, str | os.PathLike)
        super().__init__(f"{os.fspath(source)}: {reason}" if named else reason)
        self.reason = reason


def decode_image(source: ImageSource, channels: int = 1) -> np.ndarray:
    """Decodes an image.

    Args:
        source: a path, an encoded file's bytes, a Pillow image, or an array uint8 [h w] or
            [h w 1|3|4] (grey, RGB, RGBA).
        channels: 1 for grey (Pillow's L of the RGB image), 3 for RGB.

    Returns:
        uint8 [h w channels], in the caller's hands alone.

    Raises:
        UnreadableImage: with a short reason to count by.
    """
    mode = "L" if channels == 1 else "RGB"
    if isinstance(source, Image.Image):
        array = _pixels(source, mode, source)
    else:
        with _from_array(source) if isinstance(source, np.ndarray) else _open(source) as image:
            # Pillow maps some files by their name, and a turned TIFF then comes out garbled.
            image.filename = ""  # type: ignore[attr-defined]
            array = _pixels(image, mode, source)
    return array.reshape(array.shape[0], array.shape[1], channels)


def _pixels(image: Image.Image, mode: str, source: ImageSource) -> np.ndarray:
    """uint8 [h w] or [h w 3], upright."""
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImage(TOO_LARGE, source)
    if image.width * image.height == 0:
        raise UnreadableImage(BAD_ARRAY, source)
    try:
        image.load()
        turn = _TURNS.get(_orientation(image))
        flat = _to_mode(image, mode)
    except Exception as error:  # codecs raise whatever they like on damaged data
        raise UnreadableImage(DAMAGED, source) from error
    return np.array(flat if turn is None else flat.transpose(turn))


def image_size(source: str | os.PathLike[str] | bytes) -> tuple[int, int]:
    """(height, width) in pixels that `decode_image` will give, from the file's header alone.

    Raises:
        UnreadableImage: as `decode_image`, as far as the header shows.
    """
    with _open(source) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise UnreadableImage(TOO_LARGE, source)
        return (width, height) if _orientation(image) >= 5 else (height, width)


def _open(source: str | os.PathLike[str] | bytes) -> Image.Image:
    """Opens an image without decoding it."""
    encoded = isinstance(source, bytes)
    Image.init()
    try:
        if not encoded and not stat.S_ISREG(os.stat(source).st_mode):
            raise NotADirectoryError  # a pipe would be waited for
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        return Image.open(file, "r", [name for name in _FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        empty = not source if encoded else os.path.getsize(source) == 0
        raise UnreadableImage(EMPTY if empty else NO_IMAGE, source) from None
    except Exception as error:  # damaged headers raise as many kinds as damaged data
        raise UnreadableImage(REASON_OF.get(type(error), DAMAGED), source) from error


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 (upright) where there is none or it cannot be read."""
    # Pillow turns TIFFs itself; of a PNG without EXIF it would decode all to look behind the data.
    if image.format == "TIFF" or not _EXIF_KEYS & image.info.keys():
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 the image may be sound all the same
        return 1
    return value if value in _TURNS else 1


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    """The image in mode L or RGB; grey is always that of the RGB image."""
    if image.mode == "F":
        image = image.convert("L")  # Pillow has no other way from it
    elif image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        image = Image.fromarray((levels.clip(0, 65535) >> 8).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "black" if _is_bright(image) else "white")
        image = Image.alpha_composite(paper, image).convert("RGB")
    elif image.mode not in ("L", "RGB", "1"):
        image = image.convert("RGB")
    return image.convert(mode)


def _is_bright(rgba: Image.Image) -> bool:
    """Whether the mean of Pillow's L, weighted by alpha, is above the middle of black and white."""
    alpha = np.asarray(rgba.getchannel("A"))
    ink = np.einsum("hw,hw", np.asarray(rgba.convert("L")), alpha, dtype=np.int64)
    return bool(2 * ink > 255 * alpha.sum(dtype=np.int64))


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not shaped or not array.size or array.dtype != np.uint8:
        raise UnreadableImage(BAD_ARRAY)
    return Image.fromarray(np.ascontiguousarray(array))
