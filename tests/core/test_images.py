import io

import numpy as np
import pytest
from PIL import Image

from crnn_jax.core import images
from crnn_jax.core.errors import UserError
from crnn_jax.core.images import UnreadableImage, decode_image, image_size
from tests.testdata.png import png

RAMP = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
COLOUR = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def encoded(image, file_format="PNG", **options):
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def grey_of(rgb):
    rgb = rgb.astype(np.int64)
    return (19595 * rgb[..., 0] + 38470 * rgb[..., 1] + 7471 * rgb[..., 2] + 32768) >> 16


def grey(source):
    return decode_image(source, 1)[..., 0]


def test_grey_and_rgb():
    data = encoded(Image.fromarray(COLOUR))
    np.testing.assert_array_equal(decode_image(data, 3), COLOUR)
    np.testing.assert_array_equal(grey(data), grey_of(COLOUR))
    data = encoded(Image.fromarray(RAMP))
    np.testing.assert_array_equal(grey(data), RAMP)
    np.testing.assert_array_equal(decode_image(data, 3), RAMP[..., None].repeat(3, 2))
    data = encoded(Image.fromarray(COLOUR), "JPEG", quality=50)
    np.testing.assert_array_equal(grey(data), grey_of(decode_image(data, 3)))


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_16_bits_keep_their_high_byte(file_format):
    data = encoded(Image.fromarray(RAMP.astype(np.uint16) * 256 + 99), file_format)
    np.testing.assert_array_equal(grey(data), RAMP)
    np.testing.assert_array_equal(decode_image(data, 3)[..., 2], RAMP)


def test_transparency_lies_on_white():
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = [0, 255, 51]  # black ink: away, full, a fifth
    expected = [[255, 0, 204]]
    np.testing.assert_array_equal(grey(encoded(Image.fromarray(rgba))), expected)
    grey_alpha = Image.fromarray(np.ascontiguousarray(rgba[..., 2:]), "LA")
    np.testing.assert_array_equal(grey(encoded(grey_alpha)), expected)
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([9, 9, 9, 7, 7, 7])
    np.testing.assert_array_equal(grey(encoded(palette, transparency=0)), [[255, 7]])


@pytest.mark.parametrize(("level", "ground"), [(127, 255), (128, 0)])
def test_bright_ink_on_nothing_lies_on_black(level, ground):
    ink = np.full((1, 9, 2), level, np.uint8)
    ink[..., 1] = [0, 1, 51, 100, 128, 200, 250, 254, 255]
    assert decode_image(encoded(Image.fromarray(ink, "LA")), 1)[0, 0, 0] == ground


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, file_format, orientation):
    upright = np.zeros((16, 32), np.uint8)
    upright[:8, :16] = 250  # only the upper left quarter is bright
    exif = Image.Exif()
    exif[0x0112] = orientation
    # EXIF tells how to turn the stored image, so it is stored the other way round.
    back = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}.get(orientation)
    stored = Image.fromarray(upright)
    turn = back or images._TURNS.get(orientation)
    stored = stored if turn is None else stored.transpose(turn)
    path = tmp_path / f"image.{file_format.lower()}"
    stored.save(path, file_format, exif=exif)
    assert image_size(path) == upright.shape
    assert np.abs(grey(path).astype(int) - upright).max() < 60


def reason_of(function, *arguments):
    with pytest.raises(UnreadableImage) as error:
        function(*arguments)
    assert isinstance(error.value, UserError)
    assert error.value.reason in images.REASONS
    return error.value.reason


@pytest.mark.parametrize("function", [decode_image, image_size])
def test_files_that_are_no_images(tmp_path, function):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("these are no pixels, whatever the name says")
    for name, reason in (
        ("nowhere.png", images.MISSING),
        (".", images.NO_FILE),
        ("empty.png", images.EMPTY),
        ("text.png", images.NO_IMAGE),
        ("text.png/inside.png", images.NO_FILE),
    ):
        assert reason_of(function, tmp_path / name) == reason
    with pytest.raises(UnreadableImage, match=r"text\.png: not an image"):
        function(tmp_path / "text.png")
    # 50.01 megapixels; above Pillow's two limits
    for side in (7072, 20_000, 60_000):
        assert reason_of(function, png(side, side)) == images.TOO_LARGE


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"])
def test_truncated_images(file_format):
    data = encoded(Image.fromarray(np.tile(COLOUR, (20, 20, 1))), file_format)
    reason = reason_of(decode_image, data[: len(data) // 2])
    assert reason in (images.DAMAGED, images.NO_IMAGE)


def test_arrays_and_pillow_images():
    for array in (RAMP, RAMP[..., None]):
        np.testing.assert_array_equal(grey(array), RAMP)
    np.testing.assert_array_equal(decode_image(COLOUR[::-1], 3), COLOUR[::-1])
    assert decode_image(np.zeros((2, 2, 4), np.uint8), 1).min() == 255
    image = Image.fromarray(COLOUR)
    np.testing.assert_array_equal(decode_image(image, 3), COLOUR)
    assert image.getpixel((0, 0)) == tuple(COLOUR[0, 0])  # still open
    for bad in (RAMP.astype(float), RAMP[None, ..., None], np.zeros((0, 3), np.uint8), RAMP[0]):
        assert reason_of(decode_image, bad) == images.BAD_ARRAY
    decode_image(RAMP, 1)[:] = 0  # the array is the caller's own
    assert RAMP.max() > 0


def test_the_header_is_enough_for_the_size(tmp_path, monkeypatch):
    path = tmp_path / "image.jpg"  # a wrong ending does not matter
    Image.fromarray(RAMP).save(path, "PNG")
    np.testing.assert_array_equal(grey(path), RAMP)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    assert image_size(path) == (4, 6)
