"""Pillow's resizing in TensorFlow operations: the same weights, the same fixed point.

Pillow sums 8-bit levels times weights of 22 bits after the point, along the rows first unless a
picture is very tall, each pass rounded to 8 bits. Whole numbers below 2^53 are exact in float64, so
a float64 matrix product of them is that sum, bit for bit.
"""

import math
from typing import Any

import tensorflow as tf

from crnn_jax.core.preprocessing import Preprocessing

FIXED_POINT = 1 << 22
MOST_WEIGHTS = 1 << 22  # at once, of float64: a file of some kB may be a million pixels wide


def target_width(height: Any, width: Any, rule: Preprocessing) -> Any:
    """int64 scalar: `rule.target_width` of a picture of int64 scalar height and width."""
    if rule.width:
        return tf.constant(rule.width, tf.int64)
    return tf.clip_by_value(rule.natural_width(height, width), rule.min_width, rule.max_width)


def resize(image: Any, rule: Preprocessing) -> Any:
    """`rule.resize` of one picture.

    Args:
        image: uint8 [h, w, c], c as the rule says.
        rule: of the model file.

    Returns:
        uint8 [rule.height, target width, c].
    """
    shape = tf.shape(image, tf.int64)
    width = target_width(shape[0], shape[1], rule)
    if rule.filter == "nearest":
        rows = _nearest(shape[0], tf.constant(rule.height, tf.int64))
        return tf.gather(tf.gather(image, _nearest(shape[1], width), axis=1), rows, axis=0)

    def turn(levels: Any) -> Any:
        return tf.transpose(levels, [1, 0, 2])

    def resample(levels: Any, target: Any) -> Any:
        return _resample(levels, tf.cast(target, tf.int64), rule)

    levels = tf.cond(
        (shape[0] > 100 * shape[1]) & (shape[0] > rule.height),  # Pillow's Image.resize, too
        lambda: turn(resample(turn(resample(image, rule.height)), width)),
        lambda: resample(turn(resample(turn(image), width)), rule.height),
    )
    return tf.cast(tf.floor(levels + 0.5), tf.uint8)


def _resample(levels: Any, target: Any, rule: Preprocessing) -> Any:
    """One pass along the first axis: [source, n, c] -> float64 [target, n, c]."""
    shape = tf.shape(levels, tf.int64)
    step = tf.maximum(MOST_WEIGHTS // shape[0], 1)

    def add(start: Any, done: Any) -> tuple[Any, Any]:
        stop = tf.minimum(start + step, target)
        first, weights = _weights(start, stop, shape[0], target, rule)
        window = tf.cast(levels[first : first + tf.shape(weights, tf.int64)[1]], tf.float64)
        part = _round(tf.tensordot(weights, window, 1), rule)
        return stop, tf.concat([done, part], axis=0)

    start = tf.constant(0, tf.int64)
    none = tf.zeros([0, shape[1], shape[2]], tf.float64)
    return tf.while_loop(
        lambda start, _: start < target,
        add,
        (start, none),
        shape_invariants=(start.shape, tf.TensorShape([None, None, None])),
        parallel_iterations=1,
    )[1]


def _round(levels: Any, rule: Preprocessing) -> Any:
    """What Pillow makes of a pass's sum; sampling without antialiasing rounds at the very end."""
    if not rule.antialias:
        return levels
    return tf.clip_by_value(tf.floor(levels / FIXED_POINT + 0.5), 0.0, 255.0)


def _nearest(source: Any, target: Any) -> Any:
    """int64 [target]: which of the source's rows or columns each is taken from."""
    scale = tf.cast(source, tf.float64) / tf.cast(target, tf.float64)
    at = (tf.range(tf.cast(target, tf.float64), dtype=tf.float64) + 0.5) * scale
    return tf.minimum(tf.cast(tf.floor(at), tf.int64), source - 1)


def _weights(start: Any, stop: Any, source: Any, target: Any, rule: Preprocessing) -> Any:
    """How much the target pixels [start, stop) take of each source pixel.

    Returns:
        The first source pixel of which they take any, int64, and float64 [stop - start, pixels].
    """
    scale = tf.cast(source, tf.float64) / tf.cast(target, tf.float64)
    last = tf.cast(source, tf.float64)
    place = tf.range(tf.cast(start, tf.float64), tf.cast(stop, tf.float64))[:, None]
    if not rule.antialias:
        at = tf.clip_by_value((place + 0.5) * scale - 0.5, 0.0, last - 1.0)
        first = tf.floor(at)
        pixel = tf.range(first[0, 0], tf.minimum(first[-1, 0] + 2.0, last))[None, :]
        return tf.cast(first[0, 0], tf.int64), tf.maximum(1.0 - tf.abs(pixel - at), 0.0)
    stretch = tf.maximum(scale, 1.0)
    support = SUPPORT[rule.filter] * stretch
    centre = (place + 0.5) * scale
    first = tf.maximum(tf.floor(centre - support + 0.5), 0.0)
    end = tf.minimum(tf.floor(centre + support + 0.5), last)
    pixel = tf.range(first[0, 0], end[-1, 0])[None, :]
    weights = FILTERS[rule.filter]((pixel - centre + 0.5) * (1.0 / stretch))
    weights = tf.where((pixel >= first) & (pixel < end), weights, 0.0)
    weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
    # Pillow rounds halves away from zero.
    weights = tf.sign(weights) * tf.floor(tf.abs(weights) * FIXED_POINT + 0.5)
    return tf.cast(first[0, 0], tf.int64), weights


def _box(x: Any) -> Any:
    return tf.cast((x > -0.5) & (x <= 0.5), tf.float64)


def _bilinear(x: Any) -> Any:
    return tf.maximum(1.0 - tf.abs(x), 0.0)


def _hamming(x: Any) -> Any:
    return tf.where(tf.abs(x) < 1.0, _sinc(x) * (0.54 + 0.46 * tf.cos(math.pi * x)), 0.0)


def _bicubic(x: Any) -> Any:
    x, a = tf.abs(x), -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return tf.where(x < 1.0, near, tf.where(x < 2.0, far, 0.0))


def _lanczos(x: Any) -> Any:
    return tf.where((x >= -3.0) & (x < 3.0), _sinc(x) * _sinc(x / 3.0), 0.0)


def _sinc(x: Any) -> Any:
    turned = tf.where(x != 0.0, x * math.pi, 1.0)
    return tf.where(x != 0.0, tf.sin(turned) / turned, 1.0)


SUPPORT = {"box": 0.5, "bilinear": 1.0, "hamming": 1.0, "bicubic": 2.0, "lanczos": 3.0}
FILTERS = {
    "box": _box,
    "bilinear": _bilinear,
    "hamming": _hamming,
    "bicubic": _bicubic,
    "lanczos": _lanczos,
}
