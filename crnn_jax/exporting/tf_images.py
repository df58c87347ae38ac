"""Decoding and resizing images in TensorFlow operations, with the results of Pillow in `core`.

    image = resize(decode_image(encoded, rule.channels), rule)

JPEG and PNG only. 16-bit levels keep their high byte, palettes become RGB, transparency is laid on
white or black, a JPEG's EXIF orientation is applied, over 50 megapixels are refused.
"""

from typing import Any

import tensorflow as tf

from crnn_jax.core.images import MAX_PIXELS
from crnn_jax.core.preprocessing import Preprocessing

HEADER = 1 << 16  # bytes; palette, transparency and orientation come before the image data
LONGEST_SIDE = 1 << 15  # pixels, of the matrix of resizing weights
FIXED_POINT = 1 << 22  # Pillow's weights are multiples of 1 / 2^22
# EXIF's tag 0x0112: a SHORT, one of them, in either byte order.
ORIENTATION = (
    r"\\C*?Exif\\x00\\x00(?:II\\C*?\\x12\\x01\\x03\\x00\\x01\\x00\\x00\\x00|"
    r"MM\\C*?\\x01\\x12\\x00\\x03\\x00\\x00\\x00\\x01\\x00)([\\x01-\\x08])\\C*"
).replace("\\\\", "\\")


def decode_image(encoded: Any, channels: int) -> Any:
    """The bytes of a file -> uint8 [h w channels]; a TensorFlow error if undecodable."""
    is_png = tf.strings.substr(encoded, 0, 8) == b"\x89PNG\r\n\x1a\n"
    image = tf.cond(is_png, lambda: _png(encoded), lambda: _jpeg(encoded))
    image = tf.ensure_shape(image, [None, None, 3])  # a check at run time, too
    return _grey(image) if channels == 1 else image


def _jpeg(encoded: Any) -> Any:
    shape = tf.io.extract_jpeg_shape(encoded, output_type=tf.int64)
    with tf.control_dependencies([_bounded(shape[0] * shape[1])]):
        # As Pillow's libjpeg: the accurate transform, smooth chroma.
        image = tf.io.decode_jpeg(
            encoded, channels=3, dct_method="INTEGER_ACCURATE", fancy_upscaling=True
        )
    header = tf.strings.substr(encoded, 0, HEADER)
    digit = tf.strings.regex_replace(header, ORIENTATION, r"\1", replace_global=False)
    turn = tf.cond(
        tf.strings.length(digit) == 1,
        lambda: tf.cast(tf.io.decode_raw(digit, tf.uint8)[0], tf.int32),
        lambda: 1,
    )
    return upright(image, turn)


def upright(image: Any, turn: Any) -> Any:
    """uint8 [h w c] turned as EXIF's orientation, an int32 scalar 1 to 8, says."""
    image = tf.cond(turn >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    left_right = tf.reduce_any(turn == [2, 3, 6, 7])
    top_bottom = tf.reduce_any(turn == [3, 4, 7, 8])
    image = tf.cond(left_right, lambda: image[:, ::-1], lambda: image)
    return tf.cond(top_bottom, lambda: image[::-1], lambda: image)


def _png(encoded: Any) -> Any:
    # Zeros after a short file: an error message would quote its bytes.
    header = tf.strings.join([tf.strings.substr(encoded, 0, HEADER), b"\0" * 26])
    # After the signature: length and name of the first chunk, width, height, depth, colour type.
    size = tf.io.decode_raw(tf.strings.substr(header, 16, 8), tf.int32, little_endian=False)
    size = tf.cast(tf.ensure_shape(size, [2]), tf.int64)
    colour_type = tf.io.decode_raw(tf.strings.substr(header, 25, 1), tf.uint8)[0]
    alpha = (colour_type >= 4) | tf.strings.regex_full_match(header, r"\C*tRNS\C*")
    with tf.control_dependencies([_bounded(size[0] * size[1])]):
        # Without alpha in the file TensorFlow fills in too little below 8 bits.
        return tf.cond(
            alpha,
            lambda: _on_paper(tf.io.decode_png(encoded, channels=4)),
            lambda: tf.io.decode_png(encoded, channels=3),
        )


def _bounded(pixels: Any) -> Any:
    """A check before decoding: a small file may claim gigabytes."""
    return tf.debugging.assert_less_equal(pixels, tf.constant(MAX_PIXELS, tf.int64))


def _grey(image: Any) -> Any:
    """Pillow's L; of grey images in RGB it is their level again."""
    weights = tf.constant([19595, 38470, 7471])
    total = tf.reduce_sum(tf.cast(image, tf.int32) * weights, axis=-1, keepdims=True)
    return tf.cast(tf.bitwise.right_shift(total + 32768, 16), tf.uint8)


def _on_paper(image: Any) -> Any:
    """uint8 [h w 4] -> [h w 3], as Pillow's alpha_composite: seven bits after the point, halves up.

    The paper is black if the opaque part is bright, else white.
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


def resize(image: Any, rule: Preprocessing) -> Any:
    """`rule.resize` of one image uint8 [h w c], for the filter 'bilinear'.

    Pillow sums 8-bit levels times weights of 22 bits after the point, along the rows first, each
    pass rounded to 8 bits. A float64 matrix product of such whole numbers is exact.
    """
    shape = tf.shape(image, tf.int64)
    side = tf.constant(LONGEST_SIDE, tf.int64)
    width = tf.constant(rule.width, tf.int64)
    if rule.free_width:
        width = rule.natural_width(shape[0], shape[1])
        width = tf.clip_by_value(width, rule.min_width, rule.max_width)
    with tf.control_dependencies([tf.debugging.assert_less_equal(shape[:2], side)]):
        levels = tf.cast(image, tf.float64)
    weights = _antialiased if rule.antialias else _sampled
    for axis, target in ((1, width), (0, tf.constant(rule.height, tf.int64))):
        matrix = weights(tf.cast(shape[axis], tf.float64), tf.cast(target, tf.float64))
        levels = tf.tensordot(matrix, levels, [[1], [axis]])  # --> [target, the other axis, c]
        if axis == 1:
            levels = tf.transpose(levels, [1, 0, 2])
        if rule.antialias:
            levels = tf.clip_by_value(tf.floor(levels / FIXED_POINT + 0.5), 0.0, 255.0)
    return tf.cast(tf.floor(levels + 0.5), tf.uint8)


def _antialiased(source: Any, target: Any) -> Any:
    """float64 [target source]: how much each pixel takes of each source pixel, in `FIXED_POINT`."""
    scale = source / target
    stretch = tf.maximum(scale, 1.0)
    centre = (tf.range(target)[:, None] + 0.5) * scale
    first = tf.maximum(tf.floor(centre - stretch + 0.5), 0.0)
    end = tf.minimum(tf.floor(centre + stretch + 0.5), source)
    pixel = tf.range(source)[None, :]
    weights = tf.maximum(1.0 - tf.abs((pixel - centre + 0.5) * (1.0 / stretch)), 0.0)
    weights = tf.where((pixel >= first) & (pixel < end), weights, 0.0)
    weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
    return tf.floor(weights * FIXED_POINT + 0.5)


def _sampled(source: Any, target: Any) -> Any:
    """float64 [target source] without antialiasing: the two nearest source pixels."""
    at = (tf.range(target)[:, None] + 0.5) * (source / target) - 0.5
    at = tf.clip_by_value(at, 0.0, source - 1.0)
    return tf.maximum(1.0 - tf.abs(tf.range(source)[None, :] - at), 0.0)
