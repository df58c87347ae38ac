"""Greedy (best path) CTC decoding, on the device.

Synopsis:

    logits = emittable(logits, unknown_id=charset.unknown_id)
    ids, lengths = greedy_decode(logits, frames, blank_id=charset.blank_id)
    text = charset.decode(ids[0, : lengths[0]])
"""

import functools

import jax
import jax.numpy as jnp

# Finite, because -inf - (-inf) is NaN; exp() of it is exactly 0 in float32 all the same.
FORBIDDEN = -1e9


def emittable(logits: jax.Array, *, unknown_id: int) -> jax.Array:
    """Makes it impossible for any decoder to emit the class `<UNK>`.

    A character table may hold `<UNK>` without any training sample showing it; a reader that
    printed it would be counted as wrong or, worse, shown to a person. Every decoder and every
    confidence of a reading works on what this function returns.

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
