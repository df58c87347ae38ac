"""Pictures as they come -> uint8 arrays. Pillow decodes; this module settles what it leaves open.

16-bit levels keep their high byte (Pillow's own conversion clips them), palettes and CMYK become
RGB, transparency is laid on white, or on black where what is opaque is bright, an animation gives
its first frame, EXIF orientation is applied, and more than 50 megapixels are refused before any of
them is decoded.
"""

import io
import os
import stat
import struct
import zlib
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from crnn_jax.core.errors import UserError

MAX_PIXELS = 50_000_000

# What an unreadable picture is counted under.
MISSING = "missing file"
NO_FILE = "not a file"
NO_ACCESS = "no permission to read"
EMPTY = "empty file"
NO_PICTURE = "not a picture"
DAMAGED = "damaged or truncated picture"
TOO_LARGE = "over 50 megapixels"
BAD_ARRAY = "not an array of pixels"
REASONS = (MISSING, NO_FILE, NO_ACCESS, EMPTY, NO_PICTURE, DAMAGED, TOO_LARGE, BAD_ARRAY)

# Raster formats only: Pillow's EPS and WMF readers start other programs.
_COMMON = ("PNG", "JPEG", "GIF", "BMP", "PPM")
_FURTHER = ("TIFF", "WEBP", "MPO", "JPEG2000", "AVIF", "TGA", "ICO", "DIB", "PCX", "SGI", "PSD")

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_EXIF_KEYS = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}

_DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    struct.error,
    zlib.error,
    Warning,  # Pillow's about damaged EXIF, where warnings are errors
)

ImageSource = str | os.PathLike[str] | bytes | Image.Image | np.ndarray


class UnreadableImage(UserError):
    """A picture that cannot be read.

    Attributes:
        reason: short and the same for all pictures of its kind, to be counted by.
    """

    def __init__(self, reason: str, source: Any = None) -> None:
        named = isinstance(source, str | os.PathLike)
        super().__init__(f"{os.fspath(source)}: {reason}" if named else reason)
        self.reason = reason


def decode_image(source: ImageSource, channels: int = 1) -> np.ndarray:
    """Decodes a picture.

    Args:
        source: a path, an encoded file's bytes, a Pillow picture, or an array [h w] or
            [h w 1|3|4] of uint8, uint16 or bool (grey, RGB, RGBA).
        channels: 1 for grey (Pillow's L of the RGB picture), 3 for RGB.

    Returns:
        uint8 [h w channels], in the caller's hands alone.

    Raises:
        UnreadableImage: with a short reason to count by.
    """
    if isinstance(source, np.ndarray):
        picture = _from_array(source)
    elif isinstance(source, Image.Image):
        picture = source
    else:
        picture = _open(source)
    try:
        if picture.width * picture.height > MAX_PIXELS:
            raise UnreadableImage(TOO_LARGE, source)
        if picture.width * picture.height == 0:
            raise UnreadableImage(BAD_ARRAY, source)
        try:
            if not isinstance(source, Image.Image):
                # Pillow maps some files by their name, and a turned TIFF then comes out garbled.
                picture.filename = ""  # type: ignore[attr-defined]
                picture.load()
            turn = _TURNS.get(_orientation(picture))
            flat = _to_mode(picture, "L" if channels == 1 else "RGB")
        except UnreadableImage:
            raise
        except (Exception, Image.DecompressionBombError) as error:
            # Codecs raise whatever they like on damaged data: OSError, SyntaxError, zlib.error,
            # struct.error, ValueError, IndexError, ...
            raise UnreadableImage(DAMAGED, source) from error
        array = np.array(flat if turn is None else flat.transpose(turn))
    finally:
        if picture is not source:
            picture.close()
    return array.reshape(array.shape[0], array.shape[1], channels)


def image_size(source: str | os.PathLike[str] | bytes) -> tuple[int, int]:
    """(height, width) in pixels that `decode_image` will give, from the file's header alone.

    Raises:
        UnreadableImage: as `decode_image`, as far as the header tells.
    """
    with _open(source) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise UnreadableImage(TOO_LARGE, source)
        if _orientation(picture) >= 5:
            return width, height
        return height, width


def _open(source: str | os.PathLike[str] | bytes) -> Image.Image:
    """Opens a picture without decoding it."""
    try:
        if not isinstance(source, bytes) and not stat.S_ISREG(os.stat(source).st_mode):
            raise UnreadableImage(NO_FILE, source)  # a pipe would be waited for
        try:
            return _identify(source, _COMMON)
        except UnidentifiedImageError:
            return _identify(source, _FURTHER)
    except FileNotFoundError:
        raise UnreadableImage(MISSING, source) from None
    except (IsADirectoryError, NotADirectoryError):
        raise UnreadableImage(NO_FILE, source) from None
    except PermissionError:
        raise UnreadableImage(NO_ACCESS, source) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableImage(TOO_LARGE, source) from None
    except UnidentifiedImageError:
        empty = not source if isinstance(source, bytes) else os.path.getsize(source) == 0
        raise UnreadableImage(EMPTY if empty else NO_PICTURE, source) from None
    except _DAMAGE as error:
        raise UnreadableImage(DAMAGED, source) from error


def _identify(source: str | os.PathLike[str] | bytes, formats: tuple[str, ...]) -> Image.Image:
    if formats is _FURTHER:
        Image.init()
    known = [name for name in formats if formats is _COMMON or name in Image.OPEN]
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, "r", known)


def _orientation(picture: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 (upright) where there is none or it cannot be read."""
    if picture.format == "TIFF":
        return 1  # Pillow turns TIFFs itself, and its header size already is the turned one
    if not _EXIF_KEYS & picture.info.keys():
        return 1  # asked of a PNG without EXIF, Pillow decodes all of it to look behind
    try:
        value = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGE:  # a damaged EXIF block is no reason to lose the picture
        return 1
    return value if value in _TURNS else 1


def _to_mode(picture: Image.Image, mode: str) -> Image.Image:
    """The picture in mode L or RGB; grey is always that of the RGB picture."""
    if picture.mode == "F" or picture.mode.startswith("I"):
        picture = Image.fromarray(_to_8_bits(np.asarray(picture)))
    elif picture.has_transparency_data:
        picture = picture.convert("RGBA")
        paper = Image.new("RGBA", picture.size, "black" if _is_bright(picture) else "white")
        picture = Image.alpha_composite(paper, picture).convert("RGB")
    elif picture.mode not in ("L", "RGB", "1"):
        picture = picture.convert("RGB")
    return picture.convert(mode)


def _is_bright(rgba: Image.Image) -> bool:
    """Whether the mean of Pillow's L, weighted by alpha, is above the middle of black and white."""
    alpha = np.asarray(rgba.getchannel("A"))
    ink = np.einsum("hw,hw", np.asarray(rgba.convert("L")), alpha, dtype=np.int64)
    return bool(2 * ink > 255 * alpha.sum(dtype=np.int64))


def _to_8_bits(levels: np.ndarray) -> np.ndarray:
    """High byte of 16-bit levels; floating point is taken as 0 to 1, or 0 to 255 beyond."""
    if levels.dtype.kind == "f":
        levels = np.nan_to_num(levels)
        levels = levels * 255 if levels.max() <= 1 else levels
        return np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return (np.clip(levels.astype(np.int64), 0, 65535) >> 8).astype(np.uint8)


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not shaped or not array.size:
        raise UnreadableImage(BAD_ARRAY)
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise UnreadableImage(BAD_ARRAY)
    return Image.fromarray(np.ascontiguousarray(array))
