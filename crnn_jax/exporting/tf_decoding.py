"""Greedy CTC decoding and confidences for TFLite, as `decoding` computes them.

By TensorFlow operations that TFLite has with every size free, which JAX's argmax is not.
`expand_dims`, because TFLite's strided slice cannot add an axis.
"""

from typing import Any

import tensorflow as tf

from crnn_jax.decoding.greedy import FORBIDDEN

IMPOSSIBLE = -1e30  # log of it; finite, because differences of infinities are NaN


def emittable(logits: Any, unknown_id: int) -> Any:
    """float32 [b, t, k] with the class that may not be emitted made impossible; below 0 none is."""
    if unknown_id < 0:
        return logits
    forbidden = tf.one_hot(unknown_id, logits.shape[-1]) > 0
    return tf.where(forbidden[None, None, :], FORBIDDEN, logits)


def greedy_decode(logits: Any, frames: Any, blank_id: int) -> tuple[Any, Any]:
    """The best class of every frame, repeats merged, blanks removed.

    Args:
        logits: float32 [b, t, k].
        frames: int32 [b], the real ones; later ones are ignored.
        blank_id: class id of the blank.

    Returns:
        ids int32 [b, t] from the left, -1 behind them; lengths int32 [b].
    """
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
    """log p(text | picture), summed over all alignments (Graves et al., ICML 2006, section 3).

    Args:
        logits: float32 [b, t, k].
        frames: int32 [b], the real ones.
        ids: int32 [b, n], -1 behind the texts.
        lengths: int32 [b].
        blank_id: class id of the blank.

    Returns:
        float32 [b], at most 0; about -1e30 where the text does not fit into the frames.
    """
    log_probs = tf.transpose(tf.nn.log_softmax(logits), [1, 0, 2])  # --> [t, b, k]
    b, n = tf.unstack(tf.shape(ids))
    ids = tf.where(ids < 0, blank_id, ids)
    blanks = tf.fill([b, n, 1], blank_id)
    states = tf.reshape(tf.concat([blanks, tf.expand_dims(ids, 2)], axis=2), [b, 2 * n])
    states = tf.concat([states, tf.fill([b, 1], blank_id)], axis=1)  # --> [b, 2 n + 1]
    # A character may follow the one before it without a blank if the two differ.
    two_before = tf.concat([tf.fill([b, 2], blank_id), states[:, :-2]], axis=1)[:, : 2 * n + 1]
    may_skip = (states != blank_id) & (states != two_before)
    start = tf.tile(tf.expand_dims(tf.range(2 * n + 1) == 0, 0), [b, 1])
    alpha = tf.where(start, 0.0, IMPOSSIBLE)
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
