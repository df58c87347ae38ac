"""The first frame of an animation, in TensorFlow operations, as a GIF of its own.

TensorFlow's decoder unpacks every frame before it gives one, and a small file holds thousands.
"""

from typing import Any

import tensorflow as tf

MOST_BLOCKS = 1 << 15  # of 255 bytes, walked to the end of the first frame
EXTENSION, FRAME = 0x21, 0x2C


def first_frame(encoded: Any) -> Any:
    """The bytes of a GIF (a string scalar) up to the end of its first frame."""
    data = tf.cast(tf.io.decode_raw(encoded, tf.uint8), tf.int32)
    count = tf.size(data)

    def byte(at: Any) -> Any:
        return tf.where(at < count, data[tf.minimum(at, count - 1)], 0)

    def table(flags: Any) -> Any:
        """Bytes of a table of colours."""
        size = tf.bitwise.left_shift(6, tf.bitwise.bitwise_and(flags, 7))
        return tf.where(flags >= 0x80, size, 0)

    def unfinished(at: Any, inside: Any, seen: Any) -> Any:
        ends = (byte(at) != EXTENSION) & (byte(at) != FRAME)
        return (at < count) & (inside | ~(seen | ends))

    def walk(at: Any, inside: Any, seen: Any) -> tuple[Any, Any, Any]:
        """Past a block of data, or into an extension or a frame, which are chains of those."""
        kind = byte(at)
        frame = ~inside & (kind == FRAME)
        begins = tf.where(frame, at + 11 + table(byte(at + 9)), at + 2)
        return tf.where(inside, at + 1 + kind, begins), ~inside | (kind > 0), seen | frame

    start = 13 + table(byte(10))
    state = (start, tf.constant(value=False), tf.constant(value=False))
    end = tf.while_loop(unfinished, walk, state, maximum_iterations=MOST_BLOCKS)[0]
    return tf.strings.join([tf.strings.substr(encoded, 0, tf.minimum(end, count)), b";"])
