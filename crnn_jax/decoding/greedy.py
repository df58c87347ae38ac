"""Greedy (best path) CTC decoding and the probability of a text, on the device.

logits = emittable(logits, unknown_id=charset.unknown_id)
ids, id_lengths = greedy_decode(logits, lengths, blank_id=charset.blank_id)
log_prob = sequence_log_prob(logits, lengths, ids, id_lengths, blank_id=charset.blank_id)
text, confidence = charset.decode(ids[0, : id_lengths[0]]), exp(log_prob[0])
"""

import functools

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
        lengths: int32 [b], the real frames of each row; later ones are ignored.
        blank_id: class id of the blank.

    Returns:
        ids int32 [b t], the class ids from the left, -1 behind them; lengths int32 [b].
    """
    b, t, _ = logits.shape
    best = jnp.argmax(logits, axis=-1).astype(jnp.int32)  # --> [b, t]
    # A class counts again only after another one stood between: compare with the frame before.
    before = jnp.pad(best[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    real = jnp.arange(t, dtype=jnp.int32)[None, :] < lengths[:, None]
    keep = (best != blank_id) & (best != before) & real
    # What is not kept is sent to column t, which does not exist, and dropped there.
    column = jnp.where(keep, jnp.cumsum(keep, axis=1, dtype=jnp.int32) - 1, t)
    row = jnp.arange(b, dtype=jnp.int32)[:, None]
    ids = jnp.full((b, t), -1, jnp.int32).at[row, column].set(best, mode="drop")
    return ids, keep.sum(axis=1, dtype=jnp.int32)


@functools.partial(jax.jit, static_argnames=("blank_id",))
def sequence_log_prob(
    logits: jax.Array, lengths: jax.Array, ids: jax.Array, id_lengths: jax.Array, *, blank_id: int
) -> jax.Array:
    """log p(text | image) of one given text for every row, summed over all its alignments.

    It is -loss of the CTC loss (Graves et al., ICML 2006, section 3), here without its gradient
    and so without an optimiser library. A greedy path's own probability is one term of that sum.

    Args:
        logits: float [b t k], logits or log-probabilities (normalised here).
        lengths: int32 [b], the real frames of each row; 0 is allowed.
        ids: int32 [b n], class ids of the texts; what lies behind `id_lengths` is ignored.
        id_lengths: int32 [b], characters of each text; 0 gives the product of the blanks.
        blank_id: class id of the blank.

    Returns:
        float32 [b], at most 0; -inf where the text does not fit into the frames.
    """
    b, n = ids.shape
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    position = jnp.arange(n, dtype=jnp.int32)[None, :]
    ids = jnp.where(position < id_lengths[:, None], ids, blank_id)
    # Blanks between, before and after the characters: state 2i + 1 is character i.
    states = jnp.full((b, 2 * n + 1), blank_id, jnp.int32).at[:, 1::2].set(ids)
    # A character may follow the one before it without a blank if the two differ.
    differs = jnp.pad(ids[:, 1:] != ids[:, :-1], ((0, 0), (1, 0)))
    may_skip = jnp.zeros((b, 2 * n + 1), bool).at[:, 1::2].set(differs)

    start = jnp.arange(2 * n + 1, dtype=jnp.int32)[None, :] == 0
    # One frame ahead of the first, only the blank in front exists; see `step` for frame 0.
    alpha = jnp.broadcast_to(jnp.where(start, 0.0, IMPOSSIBLE), (b, 2 * n + 1))

    def step(alpha, frame):
        log_prob, index = frame  # [b k], []
        one = jnp.pad(alpha[:, :-1], ((0, 0), (1, 0)), constant_values=IMPOSSIBLE)
        two = jnp.pad(alpha[:, :-2], ((0, 0), (2, 0)), constant_values=IMPOSSIBLE)[:, : 2 * n + 1]
        arrive = jnp.logaddexp(alpha, one)
        arrive = jnp.where(may_skip, jnp.logaddexp(arrive, two), arrive)
        after = arrive + jnp.take_along_axis(log_prob, states, axis=1)
        return jnp.where((index < lengths)[:, None], after, alpha), None

    frames = (log_probs.swapaxes(0, 1), jnp.arange(logits.shape[1], dtype=jnp.int32))
    alpha, _ = lax.scan(step, alpha, frames)

    last = 2 * id_lengths[:, None]  # the blank behind the last character
    end = jnp.take_along_axis(alpha, last, axis=1)[:, 0]
    before = jnp.take_along_axis(alpha, jnp.maximum(last - 1, 0), axis=1)[:, 0]
    total = jnp.where(id_lengths > 0, jnp.logaddexp(end, before), end)
    # Rounding may lift a certain text a little above 1.
    return jnp.where(total < IMPOSSIBLE / 2, -jnp.inf, jnp.minimum(total, 0.0))
