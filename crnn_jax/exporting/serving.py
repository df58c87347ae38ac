"""The graph that a SavedModel holds: three ways in, one network, one decoder.

    server = Server(model, JaxNetwork(model, 'greedy', beam_width=10), 'greedy')
    server.signatures()['serving_bytes'](image_bytes=tf.constant([open('a.png', 'rb').read()]))

`serving_default` takes pictures of one width, `with_widths` padded ones, `serving_bytes` files.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from crnn_jax.exporting import tf_decoding, tf_images, tf_resize
from crnn_jax.reading.loaded_model import LoadedModel

# Of a call, so that none takes the machine's memory: pictures times the widest one's pixels (of the
# full network about 2 GB), and one picture's width (frames are read one after the other).
MOST_COLUMNS = 1 << 18
WIDEST = 8192
AT_ONCE = 4  # pictures decoded; one of 50 megapixels takes nearly a gigabyte

# (images uint8 [b, h, w, c], widths int32 [b]) -> {'logits' float32 [b, t, k], 'frames' int32 [b]}
# and, where the network decodes too, 'ids' int32 [b, t], -1 behind the text; t may be larger than
# all frames.
Network = Callable[[Any, Any], dict[str, Any]]


class Server(tf.Module):
    """Signatures around a network.

    Args:
        model: gives characters, preprocessing and temperature.
        network: a `Network` that is a `tf.Module`.
        post: one of `export_functions.POSTS`: what is made of the logits.
    """

    def __init__(self, model: LoadedModel, network: Network, post: str) -> None:
        super().__init__()
        self._model = model
        self._network = network
        self._post = post

    def signatures(self) -> dict[str, Any]:
        """Name -> `tf.function` with its input's names and shapes, batch and width free."""
        rule = self._model.preprocessing
        shape = [None, rule.height, rule.width or None, rule.channels]
        images = tf.TensorSpec(shape, tf.uint8, name="images")
        widths = tf.TensorSpec([None], tf.int32, name="widths")
        encoded = tf.TensorSpec([None], tf.string, name="image_bytes")

        def concrete(function: Any, *signature: Any) -> Any:
            return tf.function(function, input_signature=signature, autograph=False)

        return {
            "serving_default": concrete(self._serving_default, images),
            "with_widths": concrete(self._with_widths, images, widths),
            "serving_bytes": concrete(self._serving_bytes, encoded),
        }

    def _serving_default(self, images: Any) -> dict[str, Any]:
        shape = tf.shape(images)
        return self._read(images, tf.fill([shape[0]], shape[2]))

    def _with_widths(self, images: Any, widths: Any) -> dict[str, Any]:
        # A width beyond the array would have the network read columns that are not there.
        return self._read(images, tf.clip_by_value(widths, 0, tf.shape(images)[2]))

    def _serving_bytes(self, image_bytes: Any) -> dict[str, Any]:
        return self._read(*self._pictures(image_bytes))

    def _pictures(self, encoded: Any) -> tuple[Any, Any]:
        """Files [b] -> images uint8 [b, h, w, c] and widths int32 [b], 0 where there is none."""
        rule = self._model.preprocessing
        b = tf.size(encoded)
        most = MOST_COLUMNS // (rule.width or rule.min_width)
        with _required((b <= most, [f"at most {most} pictures a call, not", b])):
            encoded = tf.reshape(encoded, [-1])

        def read(index: Any, data: Any) -> tuple[Any, Any, Any]:
            image = tf.cond(
                index < b,
                lambda: tf_resize.resize(tf_images.decode_image(data, rule.channels), rule),
                lambda: tf.zeros([rule.height, 1, rule.channels], tf.uint8),
            )
            return index, image, tf.shape(image)[1]

        # A data set, because it can leave out what cannot be decoded: nothing else in a graph
        # outlives an error. The last element, an empty picture, is there if all others are not.
        given = (tf.range(b + 1), tf.concat([encoded, [b""]], axis=0))
        data = tf.data.Dataset.from_tensor_slices(given)
        data = data.map(read, num_parallel_calls=AT_ONCE, deterministic=True)
        data = data.ignore_errors()
        data = data.padded_batch(
            tf.cast(b + 1, tf.int64), ([], [rule.height, None, rule.channels], [])
        )
        index, images, widths = data.get_single_element()
        places = index[:-1, None]
        size = tf.concat([[b], tf.shape(images)[1:]], axis=0)
        images = tf.scatter_nd(places, images[:-1], size)
        images = tf.ensure_shape(images, [None, rule.height, None, rule.channels])
        return images, tf.scatter_nd(places, widths[:-1], [b])

    def _read(self, images: Any, widths: Any) -> dict[str, Any]:
        """The outputs of all signatures."""
        rule = self._model.preprocessing
        b, height, width = tf.unstack(tf.shape(images)[:3])
        widest = max(WIDEST, rule.max_width)
        with _required(
            (b >= 1, ["at least one picture is wanted"]),
            (height == rule.height, [f"pictures {rule.height} pixels high, not", height]),
            (width <= widest, [f"pictures at most {widest} pixels wide, not", width]),
            (b * width <= MOST_COLUMNS, [f"at most {MOST_COLUMNS} columns a call, not", b, width]),
            (tf.size(widths) == b, ["as many widths as pictures:", b, tf.size(widths)]),
        ):
            images = tf.identity(images)
        found = self._network(images, widths)
        frames = found["frames"]
        longest = tf.reduce_max(frames)
        logits = found["logits"][:, :longest]
        if self._post == "none":
            return {"logits": logits, "frames": frames}
        if self._post == "softmax":
            return {"probabilities": tf.nn.softmax(logits), "frames": frames}
        blank_id = self._model.charset.blank_id
        allowed = tf_decoding.emittable(logits, self._model.unknown_id)
        if "ids" in found:
            ids = found["ids"][:, :longest]
            lengths = tf.reduce_sum(tf.cast(ids >= 0, tf.int32), axis=1)
        else:
            ids, lengths = tf_decoding.greedy_decode(allowed, frames, blank_id)
        log_prob = tf_decoding.sequence_log_prob(
            allowed / self._model.temperature, frames, ids, lengths, blank_id
        )
        return {
            "text": tf_decoding.texts(ids, self._model.symbols),
            "confidence": tf.where(frames > 0, tf.exp(log_prob), 0.0),
            "ids": ids,
            "logits": logits,
            "frames": frames,
        }


def _required(*conditions: tuple[Any, list[Any]]) -> Any:
    """What is done in this context is done where all of these hold, and else is an error."""
    return tf.control_dependencies([tf.debugging.Assert(*condition) for condition in conditions])
