"""Writes a TensorFlow SavedModel as TF Serving wants it: OUT/1/, warm-up requests inside.

write_saved_model(LoadedModel.open('en_36'), 'word', post='greedy')
"""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.reading.loaded_model import LoadedModel

VERSION = "1"  # TF Serving serves the folder with the highest number
WARM_WIDTHS = (32, 64, 96, 128, 160, 192, 224, 256)  # most words', as `padded_width` has them


def write_saved_model(
    model: LoadedModel, folder: str, *, post: str, beam_width: int = 10, via: str = "jax"
) -> None:
    """Writes `folder`/1/.

    Args:
        model: to write.
        folder: made here; must not hold a version yet.
        post: one of `export_functions.POSTS`.
        beam_width: texts that 'beam_search' keeps from frame to frame.
        via: 'jax', 'jax2tf', or 'keras' for ordinary TensorFlow operations.

    Raises:
        UserError: it cannot be written.
    """
    import tensorflow as tf

    from crnn_jax.exporting.serving import Network, Server
    from crnn_jax.exporting.tf_networks import Jax2TfNetwork, JaxNetwork, TensorNetwork

    network: Network
    if via == "keras":
        from crnn_jax.exporting.keras_twin import build

        network = TensorNetwork(model, build((model.variables, model.metadata)), post, beam_width)
    else:
        network = (Jax2TfNetwork if via == "jax2tf" else JaxNetwork)(model, post, beam_width)
    server = Server(model, network, post)
    path = os.path.join(folder, VERSION)
    extra = os.path.join(path, "assets.extra")
    requests = [warm_up_request(model, width) for width in warm_widths(model)]
    with full_disk_told(folder):
        tf.saved_model.save(server, path, signatures=server.signatures())
        os.makedirs(extra)
        with tf.io.TFRecordWriter(os.path.join(extra, "tf_serving_warmup_requests")) as writer:
            for request in requests:
                writer.write(request)


@contextlib.contextmanager
def full_disk_told(path: str) -> Iterator[None]:
    """Turns what TensorFlow raises where a disk takes no more into a UserError."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        reason = error.message.rpartition("; ")[2].partition(" [Op:")[0]
        raise UserError(f"{path}: cannot be written: {reason}") from error


def warm_widths(model: LoadedModel) -> list[int]:
    """Widths in pixels to compile for before the first request comes."""
    rule = model.preprocessing
    if rule.width:
        return [rule.width]
    return [w for w in WARM_WIDTHS if rule.min_width <= w <= rule.max_width] or [rule.min_width]


def warm_up_request(model: LoadedModel, width: int) -> bytes:
    """A serialized PredictionLog of TF Serving: one white picture for `serving_bytes`.

    Written by hand: its message classes are in a package of their own, which asks for a TensorFlow
    version of its own.
    """
    import tensorflow as tf
    from PIL import Image

    picture = io.BytesIO()
    height = model.preprocessing.height
    Image.fromarray(np.full((height, width), 255, np.uint8)).save(picture, "png")
    tensor = tf.make_tensor_proto([picture.getvalue()], tf.string, [1])
    entry = _field(1, b"image_bytes") + _field(2, tensor.SerializeToString())
    model_spec = _field(1, b"default") + _field(3, b"serving_bytes")
    request = _field(1, model_spec) + _field(2, entry)  # PredictRequest: model_spec, inputs
    return _field(6, _field(1, request))  # PredictionLog.predict_log, PredictLog.request


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def load(folder: str) -> Any:
    """The signatures of what `write_saved_model` wrote."""
    import tensorflow as tf

    return tf.saved_model.load(os.path.join(folder, VERSION)).signatures
