import functools
import io

import numpy as np
import pytest
from PIL import Image

from crnn_jax.core.images import UnreadableImage, decode_image
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.exporting import tf_images
from tests.testdata.exports import tf
from tests.testdata.png import png
from tests.testdata.tiny_model import noise_pictures

RANDOM = np.random.default_rng(3)
LEVELS = np.kron(RANDOM.integers(0, 256, (6, 9, 4), np.uint8), np.ones((7, 8, 1), np.uint8))
COLOUR = Image.fromarray(LEVELS[..., :3])
DEEP = Image.fromarray(RANDOM.integers(0, 65536, (20, 31)).astype(np.uint16))


@functools.cache
def decoder(channels):
    signature = [tf.TensorSpec([], tf.string)]
    return tf.function(lambda x: tf_images.decode_image(x, channels), input_signature=signature)


def encoded(picture, form, **options):
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def turned(orientation, **options):
    exif = Image.Exif()
    exif[0x010E] = "a description ahead of it"
    exif[0x0112] = orientation
    return {"exif": exif.tobytes(), **options}


def see_through():
    palette = COLOUR.quantize(16)
    palette.info["transparency"] = 3
    return palette


def png_of_16_bits():
    """RGB of 16 bits, which Pillow reads but does not write."""
    levels = RANDOM.integers(0, 65536, (5, 7, 3)).astype(">u2")
    return png(7, 5, depth=16, rows=b"".join(b"\0" + row.tobytes() for row in levels))


FILES = {
    "jpeg": encoded(COLOUR, "jpeg", quality=80),
    "jpeg grey": encoded(COLOUR.convert("L"), "jpeg"),
    "jpeg progressive": encoded(COLOUR, "jpeg", progressive=True, subsampling=0),
    "png": encoded(COLOUR, "png"),
    "png grey": encoded(COLOUR.convert("L"), "png"),
    "png one bit": encoded(COLOUR.convert("1"), "png"),
    "png palette": encoded(COLOUR.quantize(16), "png"),
    "png palette with a hole": encoded(see_through(), "png", transparency=3),
    "png alpha": encoded(Image.fromarray(LEVELS), "png"),
    "png grey alpha": encoded(Image.fromarray(LEVELS).convert("LA"), "png"),
    "png 16 bit": encoded(DEEP, "png"),
}
for shade in (0, 127, 128, 255):
    ink = np.where([False, False, False, True], LEVELS, np.uint8(shade))
    FILES[f"png {shade} on nothing"] = encoded(Image.fromarray(ink), "png")
FILES["png 16 bit colour"] = png_of_16_bits()
FILES |= {f"jpeg {i}": encoded(COLOUR, "jpeg", **turned(i)) for i in range(1, 9)}
FILES["jpeg big-endian exif"] = encoded(
    COLOUR, "jpeg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x05\0\0\0\0\0\0"
)
FILES["jpeg comment first"] = encoded(COLOUR, "jpeg", comment=b"x" * 300, **turned(6))
FILES["jpeg wrong orientation"] = encoded(COLOUR, "jpeg", **turned(9))
FILES["jpeg damaged exif"] = encoded(COLOUR, "jpeg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", FILES)
def test_as_pillow_decodes(name, channels):
    want = decode_image(FILES[name], channels)
    got = decoder(channels)(FILES[name]).numpy()
    assert got.shape == want.shape
    assert np.abs(got.astype(int) - want).max() == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"no picture",
        FILES["png"][:-60],
        FILES["jpeg"][: len(FILES["jpeg"]) // 2],
        png(10_000, 10_000, kind=0),
    ],
    ids=["empty", "magic only", "text", "truncated png", "truncated jpeg", "100 megapixels"],
)
def test_what_pillow_refuses(data):
    with pytest.raises(UnreadableImage):
        decode_image(data)
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoder(1)(data)


RULES = [
    {},
    {"min_width": 90, "max_width": 120},
    {"rounding": "floor"},
    {"height": 48, "width": 21},
    {"antialias": False},
]


def pictures(channels):
    random = np.random.default_rng(7)
    small = [
        random.integers(0, 256, (h, w), np.uint8) for h, w in ((1, 1), (3, 2), (32, 60), (300, 4))
    ]
    grey = [*noise_pictures(9), *small, random.integers(0, 256, (70, 900), np.uint8)]
    if channels == 1:
        return [picture[..., None] for picture in grey]
    return [np.stack([p, p[::-1], 255 - p], axis=-1) for p in grey]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", RULES, ids=str)
def test_the_same_levels_as_pillow(options, channels):
    rule = Preprocessing(channels=channels, **options)
    image = tf.TensorSpec([None, None, channels], tf.uint8)
    resize = tf.function(lambda x: tf_images.resize(x, rule), input_signature=[image])
    for picture in pictures(channels):
        want = rule.resize(picture)
        got = resize(picture).numpy()
        assert got.shape == want.shape
        # Sampling without antialiasing rounds once, and two orders of adding may fall on two
        # sides of a half.
        assert np.abs(got.astype(int) - want).max() <= (0 if rule.antialias else 1)
