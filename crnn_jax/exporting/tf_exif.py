"""What stands beside the pixels of an encoded picture, in TensorFlow operations: its orientation.

A JPEG holds EXIF in an APP1 segment ahead of the image data, a PNG in a chunk `eXIf`; both are
walked segment by segment. What is damaged counts as upright.
"""

from typing import Any

import tensorflow as tf

ORIENTATION = 0x0112
LONGEST = 1 << 22  # bytes looked at: metadata stand in front
MOST_SEGMENTS = 4096


def orientation(encoded: Any) -> Any:
    """int32 scalar 1 to 8 of a file's bytes (a string scalar); 1 (upright) where there is none."""
    data = _levels(encoded)
    is_jpeg = tf.strings.substr(encoded, 0, 2) == b"\xff\xd8"
    is_png = tf.strings.substr(encoded, 0, 4) == b"\x89PNG"
    # A TIFF header stands behind `Exif` and two zeros, or behind the chunk's name.
    at = tf.case(
        [
            (is_jpeg, lambda: _find(data, 2, _jpeg_segment)),
            (is_png, lambda: _find(data, 8, _png_chunk(b"eXIf"))),
        ],
        default=lambda: -1,
    )
    return tf.cond(at >= 0, lambda: _in_tiff(data, at), lambda: 1)


def has_png_chunk(encoded: Any, name: bytes) -> Any:
    """bool scalar: whether a PNG's bytes (a string scalar) hold such a chunk."""
    return _find(_levels(encoded), 8, _png_chunk(name)) >= 0


def _levels(encoded: Any) -> Any:
    """int32 [n]: the first bytes of a file."""
    return tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, 0, LONGEST), tf.uint8), tf.int32)


def _find(data: Any, start: int, segment: Any) -> Any:
    """Where the EXIF block's TIFF header begins, -1 if there is none."""

    def unfinished(at: Any, found: Any, step: Any) -> Any:
        return (found < 0) & (at >= 0) & (at + 12 < tf.size(data)) & (step < MOST_SEGMENTS)

    def walk(at: Any, found: Any, step: Any) -> tuple[Any, Any, Any]:
        return *segment(data, at, found), step + 1

    return tf.while_loop(unfinished, walk, (tf.constant(start), tf.constant(-1), 0))[1]


def _jpeg_segment(data: Any, at: Any, found: Any) -> tuple[Any, Any]:
    """(where the next segment begins, or -1 at the image data; the TIFF header, if this has it)."""
    marker = data[at + 1]
    length = _number(data, at + 2, 2, big_endian=True)
    exif = (marker == 0xE1) & tf.reduce_all(data[at + 4 : at + 10] == list(b"Exif\0\0"))
    fills = (data[at] == 0xFF) & (marker == 0xFF)  # a marker may be padded
    ends = (data[at] != 0xFF) | (marker == 0xDA) | (marker == 0xD9)
    after = tf.where(fills, at + 1, tf.where(ends, -1, at + 2 + length))
    return after, tf.where(exif, at + 10, found)


def _png_chunk(name: bytes) -> Any:
    """As `_jpeg_segment`, of the chunk of that name; it may stand behind the image data."""

    def segment(data: Any, at: Any, found: Any) -> tuple[Any, Any]:
        length = _number(data, at, 4, big_endian=True)
        wanted = tf.reduce_all(data[at + 4 : at + 8] == list(name))
        broken = (length < 0) | (length > LONGEST)
        return tf.where(broken, -1, at + 12 + length), tf.where(wanted, at + 8, found)

    return segment


def _in_tiff(data: Any, start: Any) -> Any:
    """The entry of the first directory of a TIFF header at `start`."""
    tiff = data[start:]
    big_endian = tiff[0] == ord("M")

    def short(at: Any) -> Any:
        return _number(tiff, at, 2, big_endian=big_endian)

    directory = _number(tiff, 4, 4, big_endian=big_endian)
    usable = (directory >= 8) & (directory + 2 <= tf.size(tiff))
    count = tf.cond(usable, lambda: short(directory), lambda: 0)
    count = tf.clip_by_value((tf.size(tiff) - directory - 2) // 12, 0, count)
    entries = directory + 2 + 12 * tf.range(count)
    tags = short(entries)  # all at once: a hostile directory has 65,535
    found = tf.where(tags == ORIENTATION)[:, 0]
    has_one = tf.size(found) > 0
    value = tf.cond(
        has_one, lambda: short(tf.gather(entries, found[0]) + 8), lambda: 1
    )  # a SHORT stands at the entry's value
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _number(data: Any, at: Any, size: int, *, big_endian: Any) -> Any:
    """Unsigned numbers of 2 or 4 bytes, one a place; bytes behind the end count as 0."""
    places = tf.expand_dims(at, -1) + tf.range(size)
    inside = places < tf.size(data)
    raw = tf.where(inside, tf.gather(data, tf.where(inside, places, 0)), 0)
    raw = tf.where(big_endian, raw[..., ::-1], raw)
    return tf.reduce_sum(raw * tf.constant([1, 1 << 8, 1 << 16, 1 << 24][:size]), axis=-1)
