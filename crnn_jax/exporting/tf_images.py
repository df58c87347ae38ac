"""`core.images` in TensorFlow operations: encoded JPEG, PNG, GIF or BMP -> grey or RGB levels.

Like there: 16-bit levels keep their high byte, palettes become RGB, transparency is laid on white
or black, an animation gives its first frame, EXIF orientation is applied, over 50 megapixels are
refused. TensorFlow decodes no other formats; of BMPs it reads 24 and 32 bits a pixel here.
"""

from typing import Any

import tensorflow as tf

from crnn_jax.core.images import MAX_PIXELS
from crnn_jax.exporting.tf_exif import has_png_chunk, orientation
from crnn_jax.exporting.tf_gif import first_frame

# A progressive JPEG comes in about ten scans. One more costs its file 75 bytes and whoever decodes
# it another pass over all pixels.
MAX_SCANS = 100

JPEG, PNG, GIF, BMP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM"


def decode_image(encoded: Any, channels: int) -> Any:
    """Decodes one picture; what cannot be decoded is a TensorFlow error when it runs.

    Args:
        encoded: string scalar, the bytes of a file.
        channels: 1 for grey (Pillow's L of the RGB picture), 3 for RGB.

    Returns:
        uint8 [h, w, channels].
    """
    image = tf.case(
        [
            (_starts(encoded, JPEG), lambda: _jpeg(encoded)),
            (_starts(encoded, PNG), lambda: _png(encoded)),
            (_starts(encoded, GIF), lambda: _gif(encoded)),
            (_starts(encoded, BMP), lambda: _bmp(encoded)),
        ],
        default=lambda: _refuse("not a JPEG, PNG, GIF or BMP"),
        exclusive=True,
    )
    image = tf.ensure_shape(image, [None, None, 3])  # a check at run time, too
    return upright(_grey(image) if channels == 1 else image, orientation(encoded))


def upright(image: Any, turn: Any) -> Any:
    """uint8 [h, w, c] turned as EXIF's orientation, an int32 scalar 1 to 8, says."""
    image = tf.cond(turn >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    left_right = tf.reduce_any(turn == [2, 3, 6, 7])
    top_bottom = tf.reduce_any(turn == [3, 4, 7, 8])
    image = tf.cond(left_right, lambda: image[:, ::-1], lambda: image)
    return tf.cond(top_bottom, lambda: image[::-1], lambda: image)


def _grey(image: Any) -> Any:
    """Pillow's L; of grey pictures in RGB it is their level again."""
    weights = tf.constant([19595, 38470, 7471])
    total = tf.reduce_sum(tf.cast(image, tf.int32) * weights, axis=-1, keepdims=True)
    return tf.cast(tf.bitwise.right_shift(total + 32768, 16), tf.uint8)


def _jpeg(encoded: Any) -> Any:
    shape = tf.io.extract_jpeg_shape(encoded, output_type=tf.int64)
    raw = tf.io.decode_raw(encoded, tf.uint8)
    scans = tf.math.count_nonzero((raw[:-1] == 0xFF) & (raw[1:] == 0xDA))
    few = tf.debugging.assert_less_equal(scans, tf.constant(MAX_SCANS, tf.int64))
    with tf.control_dependencies([*_bounded(shape[0], shape[1]), few]):
        # Pillow's decoder, too, is libjpeg with the accurate transform and smooth chroma.
        return tf.io.decode_jpeg(
            encoded, channels=3, dct_method="INTEGER_ACCURATE", fancy_upscaling=True
        )


def _png(encoded: Any) -> Any:
    with tf.control_dependencies(_bounded(*_integers(encoded, 16, 4, 2, big_endian=True))):
        # Asked for an alpha that the file has not, TensorFlow fills in too little below 8 bits.
        colour_type = tf.bitwise.right_shift(_integers(encoded, 24, 2, 1)[0], 8)
        alpha = (tf.bitwise.bitwise_and(colour_type, 4) > 0) | has_png_chunk(encoded, b"tRNS")
        return tf.cond(
            alpha,
            lambda: _on_paper(tf.io.decode_png(encoded, channels=4)),
            lambda: tf.io.decode_png(encoded, channels=3),
        )


def _on_paper(image: Any) -> Any:
    """uint8 [h, w, 4] -> [h, w, 3], by the arithmetic of Pillow's alpha_composite.

    Seven bits after the point, halves up, division by 255 as shift and add. The paper is black
    where what is opaque is bright.
    """
    grey = tf.cast(_grey(image[..., :3]), tf.int32)
    image = tf.cast(image, tf.int32)
    alpha = image[..., 3:]
    ink, most = (tf.reduce_sum(tf.cast(x, tf.int64)) for x in (grey * alpha, 255 * alpha))
    share = alpha * 128
    paper = tf.where(2 * ink > most, 0, 255)
    total = image[..., :3] * share + paper * (255 * 128 - share) + (128 << 7)
    shift = tf.bitwise.right_shift
    return tf.cast(shift(shift(shift(total, 8) + total, 8), 7), tf.uint8)


def _gif(encoded: Any) -> Any:
    with tf.control_dependencies(_bounded(*_integers(encoded, 6, 2, 2))):
        return tf.io.decode_gif(first_frame(encoded))[0]


def _bmp(encoded: Any) -> Any:
    width, height = _integers(encoded, 18, 4, 2)
    with tf.control_dependencies(_bounded(width, height)):
        # Of a palette TensorFlow gives the indices, one channel, which `decode_image` refuses.
        return tf.io.decode_bmp(encoded)[..., :3]


def _starts(encoded: Any, magic: bytes) -> Any:
    return tf.strings.substr(encoded, 0, len(magic)) == magic


def _refuse(why: str) -> Any:
    with tf.control_dependencies([tf.debugging.Assert(tf.constant(value=False), [why])]):
        return tf.zeros([1, 1, 3], tf.uint8)


def _bounded(height: Any, width: Any) -> list[Any]:
    """Checks to run ahead of decoding: a small file may claim gigabytes."""
    most = tf.constant(MAX_PIXELS, tf.int64)
    # Negative heights are BMPs that begin at the top.
    return [tf.debugging.assert_less_equal(tf.abs(height) * tf.abs(width), most)]


def _integers(
    encoded: Any, start: int, size: int, count: int, *, big_endian: bool = False
) -> list[Any]:
    """int64 scalars that stand in a file's header."""
    kind = {2: tf.uint16, 4: tf.int32}[size]
    # Zeros behind a file that ends too early: an error would have its bytes in the message.
    padded = tf.strings.join([tf.strings.substr(encoded, 0, 64), b"\0" * 64])
    raw = tf.strings.substr(padded, start, size * count)
    read = tf.io.decode_raw(raw, kind, little_endian=not big_endian)
    return tf.unstack(tf.cast(tf.ensure_shape(read, [count]), tf.int64))
