"""Greedy (best path) CTC decoding and the probability of a text, on the device.

logits = emittable(logits, unknown_id=charset.unknown_id)
ids, id_lengths = greedy_decode(logits, lengths, blank_id=charset.blank_id)
log_prob = sequence_log_prob(logits, lengths, ids, id_lengths, blank_id=charset.blank_id)
text, confidence = charset.decode(ids[0, : id_lengths[0]]), exp(log_prob[0])

No argmax, gather or scatter: TFLite has them for fixed shapes only.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# Finite, because -inf - (-inf) is NaN; exp() of it is exactly 0 in float32 all the same.
FORBIDDEN = -1e9
IMPOSSIBLE = -1e30  # finite too: log of 0


def emittable(logits: jax.Array, *, unknown_id: int) -> jax.Array:
    """Makes it impossible for any decoder to emit the class `<UNK>`, which nobody wants to read.

    Every decoder and every confidence of a reading works on what this function returns.

    Args:
        logits: float [b t k], unnormalised.
        unknown_id: class id of `<UNK>`; below 0 there is none, or it may be emitted.

    Returns:
        float32 [b t k], the same numbers but for the one class.
    """
    logits = logits.astype(jnp.float32)
    if unknown_id < 0:
        return logits
    forbidden = jnp.arange(logits.shape[-1], dtype=jnp.int32) == unknown_id  # --> [k]
    return jnp.where(forbidden[None, None, :], jnp.float32(FORBIDDEN), logits)


@functools.partial(jax.jit, static_argnames=("blank_id",))
def greedy_decode(
    logits: jax.Array, lengths: jax.Array, *, blank_id: int
) -> tuple[jax.Array, jax.Array]:
    """The best class of every frame, repeats merged, blanks removed.

    Args:
        logits: float [b t k], logits or log-probabilities.
        lengths: int32 [b], real frames of each row; later ones are ignored.
        blank_id: class id of the blank.

    Returns:
        ids int32 [b t], the class ids from the left, -1 behind them; lengths int32 [b].
    """
    frame = jnp.arange(logits.shape[1], dtype=jnp.int32)
    best = best_class(logits)
    # A class counts again only after another one: compare with the frame before.
    repeats = best == _shifted(best, 1, -1)
    keep = (best != blank_id) & ~repeats & (frame[None, :] < lengths[:, None])
    earlier = keep[:, None, :] & (frame[None, None, :] < frame[None, :, None])  # --> [b, t, t]
    place = earlier.astype(jnp.int32).sum(axis=-1)
    written = keep[:, None, :] & (place[:, None, :] == frame[None, :, None])
    ids = jnp.where(written, best[:, None, :], -1).max(axis=-1)
    return ids, keep.astype(jnp.int32).sum(axis=1)


def best_class(logits: jax.Array) -> jax.Array:
    """int32 [b t], the first of the classes [b t k] with the highest score."""
    k = logits.shape[-1]
    is_best = logits == logits.max(axis=-1, keepdims=True)
    return jnp.where(is_best, jnp.arange(k, dtype=jnp.int32)[None, None, :], k - 1).min(axis=-1)


@functools.partial(jax.jit, static_argnames=("blank_id",))
def sequence_log_prob(
    logits: jax.Array, lengths: jax.Array, ids: jax.Array, id_lengths: jax.Array, *, blank_id: int
) -> jax.Array:
    """log p(text | image) of one text for every row, summed over its alignments: -CTC loss.

    Args:
        logits: float [b t k], logits or log-probabilities (normalised here).
        lengths: int32 [b], real frames of each row; 0 is allowed.
        ids: int32 [b n], class ids of the texts; what lies behind `id_lengths` is ignored.
        id_lengths: int32 [b], characters of each text; 0 gives the product of the blanks.
        blank_id: class id of the blank.

    Returns:
        float32 [b], at most 0; -inf where the text does not fit into the frames.

    References:
        A. Graves et al., "Connectionist Temporal Classification", ICML 2006, section 3.
    """
    (b, n), k = ids.shape, logits.shape[-1]
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    ids = jnp.where(jnp.arange(n, dtype=jnp.int32)[None, :] < id_lengths[:, None], ids, blank_id)
    # State 2i + 1 is character i, the even states are the blanks around the characters.
    blanks = jnp.full((b, n), blank_id, jnp.int32)
    pairs = jnp.stack([blanks, ids], axis=2).reshape(b, 2 * n)
    states = jnp.concatenate([pairs, jnp.full((b, 1), blank_id, jnp.int32)], axis=1)
    state = jnp.arange(2 * n + 1, dtype=jnp.int32)[None, :]
    # A character may follow the one before it without a blank if the two differ.
    may_skip = (states != blank_id) & (states != _shifted(states, 2, blank_id))
    is_class = states[:, :, None] == jnp.arange(k, dtype=jnp.int32)[None, None, :]
    one_hot = is_class.astype(jnp.float32)
    emissions = jnp.einsum("btk,bsk->tbs", log_probs, one_hot, precision="highest")

    def step(carry, emission):
        alpha, frame = carry
        arrive = jnp.logaddexp(alpha, _shifted(alpha, 1, IMPOSSIBLE))
        skip = jnp.logaddexp(arrive, _shifted(alpha, 2, IMPOSSIBLE))
        after = jnp.where(may_skip, skip, arrive) + emission
        return (jnp.where((frame < lengths)[:, None], after, alpha), frame + 1), None

    # Before frame 0 only the blank in front exists.
    alpha = jnp.broadcast_to(jnp.where(state == 0, 0.0, IMPOSSIBLE), (b, 2 * n + 1))
    (alpha, _), _ = lax.scan(step, (alpha, jnp.int32(0)), emissions)

    def at(place):
        return jnp.where(state == place[:, None], alpha, -jnp.inf).max(axis=1)

    end = at(2 * id_lengths)  # the blank behind the last character
    total = jnp.where(id_lengths > 0, jnp.logaddexp(end, at(2 * id_lengths - 1)), end)
    # Rounding may lift a certain text a little above 1.
    return jnp.where(total < IMPOSSIBLE / 2, -jnp.inf, jnp.minimum(total, 0.0))


def _shifted(x: jax.Array, by: int, fill: Any) -> jax.Array:
    """[b n], moved `by` places to the right; `fill` comes in from the left."""
    b, n = x.shape
    x = jnp.concatenate([jnp.full((b, by), fill, x.dtype), x], axis=1)
    return lax.slice_in_dim(x, 0, n, axis=1)
