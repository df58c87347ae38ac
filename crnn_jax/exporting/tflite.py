"""Writes a TFLite file that needs no delegate: network and greedy decoding inside.

    write_tflite(LoadedModel.open('en_36'), 'word.tflite', quantize='float16')

The stock interpreter runs it, any number of images of one width at a time. Characters and
preprocessing are in the same file, as `crnn_jax.json` in a zip archive at its end:
`zipfile.ZipFile('word.tflite').read('crnn_jax.json')`; `labels.txt` is for the TFLite tools.
"""

import os
import tempfile
import zipfile
from typing import Any

import tensorflow as tf

from crnn_jax.core.errors import UserError
from crnn_jax.exporting.metadata import METADATA, reader_metadata
from crnn_jax.exporting.runtimes import convert_to_tflite, in_own_process
from crnn_jax.exporting.saved_model import JaxNetwork, full_disk_is_user_error
from crnn_jax.reading.loaded_model import LoadedModel

LABELS = "labels.txt"


def write_tflite(
    model: LoadedModel,
    path: str,
    *,
    post: str = "greedy",
    quantize: str = "none",
    batch: int = 0,
    width: int = 0,
) -> None:
    """Writes `path`; options as in `ExportPlan`."""
    with tempfile.TemporaryDirectory(prefix="crnn_jax_tflite_") as folder:
        source = os.path.join(folder, "saved_model")
        with full_disk_is_user_error(path):
            _write_source(model, source, post, batch, width)
        job = {"source": source, "path": path, "quantize": quantize}
        try:
            in_own_process(convert_to_tflite, job)  # it may crash its process
        except RuntimeError as error:
            raise UserError(f"{path}: TensorFlow's converter failed: {error}") from error
    fixed: dict[str, Any] = {"width": width} if width else {}
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA, reader_metadata(model, post, **fixed))
        archive.writestr(LABELS, "\n".join(model.symbols) + "\n")


def _write_source(model: LoadedModel, folder: str, post: str, batch: int, width: int) -> None:
    """The SavedModel to convert: one signature, no strings."""
    network, rule = JaxNetwork(model, post, batch=batch, width=width), model.preprocessing

    def read(images: Any) -> dict[str, Any]:
        size = tf.shape(images)
        found = network(images, tf.fill([size[0]], size[2]))
        del found["frames"]  # without padding all are real
        if "ids" in found:
            found["lengths"] = tf.reduce_sum(tf.cast(found["ids"] >= 0, tf.int32), axis=1)
        return found

    shape = [batch or None, rule.height, width or None, rule.channels]
    images = tf.TensorSpec(shape, tf.uint8, name="images")
    signature = tf.function(read, input_signature=[images], autograph=False)
    tf.saved_model.save(network, folder, signatures={"serving_default": signature})
