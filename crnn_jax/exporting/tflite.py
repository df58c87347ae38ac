"""Writes a TFLite file that needs no delegate: network and greedy decoding inside.

    write_tflite(LoadedModel.open('en_36'), 'word.tflite', quantize='float16')

The stock interpreter runs it, any number of pictures of one width at a time. Characters and
preprocessing are in the same file, as `crnn_jax.json` in a zip archive at its end:
`zipfile.ZipFile('word.tflite').read('crnn_jax.json')`; `labels.txt` is for the TFLite tools.
"""

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from typing import Any

from crnn_jax.core.errors import UserError
from crnn_jax.exporting.stablehlo import METADATA, reader_metadata
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
    """Writes `path`.

    Args:
        model: to write.
        path: of the file.
        post: 'none', 'softmax' or 'greedy'.
        quantize: 'none' (float32), 'float16' weights, or 'dynamic': 8-bit weights and products,
            activations scaled at run time.
        batch, width: fixed sizes, both or none; 0: free.

    Raises:
        UserError: the converter failed, or the disk is full.
    """
    from crnn_jax.exporting.saved_model import full_disk_is_user_error

    with tempfile.TemporaryDirectory(prefix="crnn_jax_tflite_") as folder:
        source = os.path.join(folder, "saved_model")
        with full_disk_is_user_error(path):
            _write_source(model, source, post, batch, width)
        # A process of its own: the converter may crash the one it runs in.
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tflite_convert.py")
        done = subprocess.run(
            [sys.executable, "-P", script],
            input=json.dumps([source, os.path.abspath(path), quantize]),
            env={"TF_CPP_MIN_LOG_LEVEL": "3"} | os.environ,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise UserError(f"{path}: TensorFlow's converter failed: {lines[-1]}")
    fixed = {"width": width} if width else {}
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA, reader_metadata(model, post, **fixed))
        archive.writestr(LABELS, "\n".join(model.symbols) + "\n")


def _write_source(model: LoadedModel, folder: str, post: str, batch: int, width: int) -> None:
    """The SavedModel that is converted: one signature, no strings, shapes as they are given."""
    import tensorflow as tf

    from crnn_jax.exporting.saved_model import JaxNetwork
    from crnn_jax.exporting.tf_decoding import emittable, greedy_decode, sequence_log_prob

    network = JaxNetwork(model, "none", batch=batch, width=width)
    rule, blank_id = model.preprocessing, model.charset.blank_id

    def read(images: Any) -> dict[str, Any]:
        size = tf.shape(images)
        found = network.exactly(images, tf.fill([size[0]], size[2]))
        logits, frames = found["logits"], found["frames"]
        if post == "none":
            return {"logits": logits}
        if post == "softmax":
            return {"probabilities": tf.nn.softmax(logits)}
        allowed = emittable(logits, model.unknown_id)
        ids, lengths = greedy_decode(allowed, frames, blank_id)
        log_prob = sequence_log_prob(allowed / model.temperature, frames, ids, lengths, blank_id)
        confidence = tf.exp(log_prob)
        return {"ids": ids, "lengths": lengths, "confidence": confidence, "logits": logits}

    shape = [batch or None, rule.height, width or None, rule.channels]
    images = tf.TensorSpec(shape, tf.uint8, name="images")
    module = tf.Module()
    module.network = network
    signature = tf.function(read, input_signature=[images], autograph=False)
    tf.saved_model.save(module, folder, signatures={"serving_default": signature})
