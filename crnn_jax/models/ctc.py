"""The CTC loss (Graves et al., 2006) on top of optax's, for batches as they really are.

optax gives an impossible label a loss of 1e5 with a gradient of ordinary size, and a confident
alignment a loss a little below zero. Here the first counts nothing and the second is zero.
"""

import jax
import jax.numpy as jnp
import optax


def is_feasible(lengths: jax.Array, labels: jax.Array, label_lengths: jax.Array) -> jax.Array:
    """Whether any alignment exists: frames >= characters + adjacent repeats.

    Args:
      lengths: int32 [b], real frames.
      labels: int32 [b, n].
      label_lengths: int32 [b].

    Returns:
      bool [b].
    """
    inside = jnp.arange(1, max(labels.shape[1], 1))[None, :] < label_lengths[:, None]
    repeats = jnp.sum((labels[:, 1:] == labels[:, :-1]) & inside, axis=1, dtype=jnp.int32)
    return lengths >= label_lengths + repeats


def ctc_loss(
    logits: jax.Array,
    lengths: jax.Array,
    labels: jax.Array,
    label_lengths: jax.Array,
    *,
    blank_id: int,
) -> jax.Array:
    """-log p(label | logits), summed over all alignments.

    Args:
      logits: [b, t, k], t >= 1; taken in float32.
      lengths: int32 [b], real frames.
      labels: int32 [b, n], right-padded with anything; ids other than the blank's.
      label_lengths: int32 [b].
      blank_id: class of the blank.

    Returns:
      float32 [b]; 0 with a zero gradient where no alignment exists (see `is_feasible`).
    """
    frames = jnp.arange(logits.shape[1])[None, :]
    positions = jnp.arange(labels.shape[1])[None, :]
    loss = optax.ctc_loss(
        logits.astype(jnp.float32),
        (frames >= lengths[:, None]).astype(jnp.float32),
        jnp.where(positions < label_lengths[:, None], labels, 0),
        (positions >= label_lengths[:, None]).astype(jnp.float32),
        blank_id=blank_id,
    )
    return jnp.where(is_feasible(lengths, labels, label_lengths), jnp.maximum(loss, 0.0), 0.0)
