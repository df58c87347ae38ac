"""Writes a TFLite file that needs no delegate: network and greedy decoding inside.

    write_tflite(LoadedModel.open('en_36'), 'word.tflite', quantize='float16')

The stock interpreter runs it, any number of pictures of one width at a time. Characters and
preprocessing lie inside, as `crnn_jax.json` in a zip archive behind the network's bytes (so the
TFLite tools keep their labels, too): `zipfile.ZipFile('word.tflite').read('crnn_jax.json')`.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from typing import Any

from crnn_jax.core.errors import UserError
from crnn_jax.exporting.saved_model import full_disk_told
from crnn_jax.reading.loaded_model import LoadedModel

QUANTIZE = ("none", "float16", "dynamic")
METADATA = "crnn_jax.json"
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
        quantize: 'none' (float32), 'float16' weights, or 'dynamic': 8-bit weights, products in
            8 bits, activations scaled as they come.
        batch, width: fixed sizes, both or none; 0: free.

    Raises:
        UserError: what TFLite cannot do, or the converter failed.
    """
    if post == "beam_search":
        raise UserError("--post beam_search: TFLite has no such operation; --post greedy")
    if bool(batch) != bool(width):
        raise UserError("--batch and --width: TFLite takes both fixed, or both free")
    with tempfile.TemporaryDirectory(prefix="crnn_jax_tflite_") as folder:
        source = os.path.join(folder, "saved_model")
        with full_disk_told(path):
            _write_source(model, source, post, batch, width)
        # A process of its own: the converter may end the one it runs in.
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
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA, json.dumps(metadata(model, post, width), ensure_ascii=False))
        archive.writestr(LABELS, "\n".join(model.symbols) + "\n")


def metadata(model: LoadedModel, post: str, width: int = 0) -> dict[str, Any]:
    """What a reader needs beside the network: `symbols` by class id, and the preprocessing."""
    rule = model.preprocessing
    if width:
        rule = dataclasses.replace(rule, width=width)
    return {
        "symbols": model.symbols,
        "blank_id": model.charset.blank_id,
        "unknown_id": model.unknown_id,
        "temperature": model.temperature,
        "preprocessing": rule.to_metadata(),
        "post": post,
    }


def _write_source(model: LoadedModel, folder: str, post: str, batch: int, width: int) -> None:
    """The SavedModel that is converted: one signature, no strings, no padding of shapes."""
    import tensorflow as tf

    from crnn_jax.exporting import tf_decoding
    from crnn_jax.exporting.tf_networks import JaxNetwork

    network = JaxNetwork(model, "none", batch=batch, width=width)
    rule, blank_id = model.preprocessing, model.charset.blank_id
    shape = [batch or None, rule.height, width or None, rule.channels]

    def read(images: Any) -> dict[str, Any]:
        size = tf.shape(images)
        found = network.exactly(images, tf.fill([size[0]], size[2]))
        logits, frames = found["logits"], found["frames"]
        if post == "none":
            return {"logits": logits}
        if post == "softmax":
            return {"probabilities": tf.nn.softmax(logits)}
        allowed = tf_decoding.emittable(logits, model.unknown_id)
        ids, lengths = tf_decoding.greedy_decode(allowed, frames, blank_id)
        log_prob = tf_decoding.sequence_log_prob(
            allowed / model.temperature, frames, ids, lengths, blank_id
        )
        return {
            "ids": ids,
            "lengths": lengths,
            "confidence": tf.exp(log_prob),
            "logits": logits,
        }

    images = tf.TensorSpec(shape, tf.uint8, name="images")
    signature = tf.function(read, input_signature=[images], autograph=False)
    module = tf.Module()
    module.network = network
    tf.saved_model.save(module, folder, signatures={"serving_default": signature})
