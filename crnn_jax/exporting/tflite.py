"""Writes a TFLite file that needs no delegate: network and greedy decoding inside.

    write_tflite(LoadedModel.open('en_36'), 'word.tflite', quantize='float16')

The stock interpreter runs it, any number of pictures of one width at a time. Characters and
preprocessing are in the same file, as `crnn_jax.json` in a zip archive at its end:
`zipfile.ZipFile('word.tflite').read('crnn_jax.json')`; `labels.txt` is for the TFLite tools.

Decoding is by TensorFlow operations that TFLite has with every size free, which JAX's argmax is
not; by `expand_dims`, because TFLite's strided slice cannot add an axis.
"""

import os
import tempfile
import zipfile
from typing import Any

import tensorflow as tf

from crnn_jax.core.errors import UserError
from crnn_jax.decoding.greedy import FORBIDDEN
from crnn_jax.exporting.runtimes import convert_to_tflite, in_own_process
from crnn_jax.exporting.saved_model import JaxNetwork, full_disk_is_user_error
from crnn_jax.exporting.stablehlo import METADATA, reader_metadata
from crnn_jax.reading.loaded_model import LoadedModel

LABELS = "labels.txt"
IMPOSSIBLE = -1e30  # log of it; finite, because differences of infinities are NaN


def write_tflite(
    model: LoadedModel,
    path: str,
    *,
    post: str = "greedy",
    quantize: str = "none",
    batch: int = 0,
    width: int = 0,
) -> None:
    """Writes `path`; options as of `ExportPlan`; 'dynamic' has 8-bit weights and products."""
    with tempfile.TemporaryDirectory(prefix="crnn_jax_tflite_") as folder:
        source = os.path.join(folder, "saved_model")
        with full_disk_is_user_error(path):
            _write_source(model, source, post, batch, width)
        # A process of its own: the converter may crash the one it runs in.
        try:
            in_own_process(
                convert_to_tflite, {"source": source, "path": path, "quantize": quantize}
            )
        except RuntimeError as error:
            raise UserError(f"{path}: TensorFlow's converter failed: {error}") from error
    fixed = {"width": width} if width else {}
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA, reader_metadata(model, post, **fixed))
        archive.writestr(LABELS, "\n".join(model.symbols) + "\n")


def _write_source(model: LoadedModel, folder: str, post: str, batch: int, width: int) -> None:
    """The SavedModel that is converted: one signature, no strings, shapes as they are given."""
    network = JaxNetwork(model, "none", batch=batch, width=width)
    rule, blank_id = model.preprocessing, model.charset.blank_id

    def read(images: Any) -> dict[str, Any]:
        size = tf.shape(images)
        found = network(images, tf.fill([size[0]], size[2]))
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
    signature = tf.function(read, input_signature=[images], autograph=False)
    tf.saved_model.save(network, folder, signatures={"serving_default": signature})


def emittable(logits: Any, unknown_id: int) -> Any:
    """float32 [b, t, k] with the class that may not be emitted made impossible; below 0 none is."""
    if unknown_id < 0:
        return logits
    forbidden = tf.one_hot(unknown_id, logits.shape[-1]) > 0
    return tf.where(forbidden[None, None, :], FORBIDDEN, logits)


def greedy_decode(logits: Any, frames: Any, blank_id: int) -> tuple[Any, Any]:
    """As `decoding.greedy`: (ids int32 [b, t] from the left, -1 behind them; lengths int32 [b])."""
    best = tf.argmax(logits, axis=-1, output_type=tf.int32)  # --> [b, t]
    b, t = tf.unstack(tf.shape(best))
    before = tf.concat([tf.fill([b, 1], -1), best[:, :-1]], axis=1)
    real = tf.expand_dims(tf.range(t), 0) < tf.expand_dims(frames, 1)
    keep = tf.cast((best != blank_id) & (best != before) & real, tf.int32)
    # What is not kept is written to column t and cut off.
    column = tf.where(keep > 0, tf.cumsum(keep, axis=1) - 1, t)
    row = tf.tile(tf.expand_dims(tf.range(b), 1), [1, t])
    # Scattering adds, and several frames may meet in column t: 0 stands for nothing meanwhile.
    places = tf.stack([row, column], axis=-1)
    ids = tf.scatter_nd(places, (best + 1) * keep, tf.stack([b, t + 1]))[:, :t] - 1
    return ids, tf.reduce_sum(keep, axis=1)


def sequence_log_prob(logits: Any, frames: Any, ids: Any, lengths: Any, blank_id: int) -> Any:
    """As `decoding.greedy`: float32 [b]; about -1e30 where a text does not fit its frames."""
    log_probs = tf.transpose(tf.nn.log_softmax(logits), [1, 0, 2])  # --> [t, b, k]
    b, n = tf.unstack(tf.shape(ids))
    ids = tf.where(ids < 0, blank_id, ids)
    blanks = tf.fill([b, n, 1], blank_id)
    states = tf.reshape(tf.concat([blanks, tf.expand_dims(ids, 2)], axis=2), [b, 2 * n])
    states = tf.concat([states, tf.fill([b, 1], blank_id)], axis=1)  # --> [b, 2 n + 1]
    # A character may follow the one before it without a blank if the two differ.
    two_before = tf.concat([tf.fill([b, 2], blank_id), states[:, :-2]], axis=1)[:, : 2 * n + 1]
    may_skip = (states != blank_id) & (states != two_before)
    alpha = tf.where(tf.tile(tf.expand_dims(tf.range(2 * n + 1) == 0, 0), [b, 1]), 0.0, IMPOSSIBLE)
    outside = tf.fill([b, 2], IMPOSSIBLE)

    def step(index: Any, alpha: Any) -> tuple[Any, Any]:
        one = tf.concat([outside[:, :1], alpha[:, :-1]], axis=1)
        two = tf.concat([outside, alpha], axis=1)[:, : 2 * n + 1]
        arrive = _add_logs(alpha, one)
        arrive = tf.where(may_skip, _add_logs(arrive, two), arrive)
        after = arrive + tf.gather(log_probs[index], states, batch_dims=1)
        return index + 1, tf.where(tf.expand_dims(index < frames, 1), after, alpha)

    _, alpha = tf.while_loop(
        lambda index, _: index < tf.shape(log_probs)[0],
        step,
        (tf.constant(0), alpha),
        (tf.TensorShape([]), tf.TensorShape([alpha.shape[0], None])),
    )
    last = 2 * tf.expand_dims(lengths, 1)  # the blank behind the last character
    end = tf.gather(alpha, last, batch_dims=1)[:, 0]
    before = tf.gather(alpha, tf.maximum(last - 1, 0), batch_dims=1)[:, 0]
    total = tf.where(lengths > 0, _add_logs(end, before), end)
    return tf.minimum(total, 0.0)


def _add_logs(a: Any, b: Any) -> Any:
    """log(exp(a) + exp(b)) of finite numbers."""
    return tf.maximum(a, b) + tf.math.log(1.0 + tf.exp(-tf.abs(a - b)))
