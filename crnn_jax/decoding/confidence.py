"""How sure a reading is: p(text | picture), summed over all alignments.

The probability of a text is the sum over every way to write it into the frames, with blanks and
repeats (Graves et al., ICML 2006, "Connectionist temporal classification", section 3): exp(-loss)
of the CTC loss. A greedy path's own probability is only one term of that sum.

The forward recursion stands here in its own few lines because reading needs no gradient and
should not have to import an optimiser library for it.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

# Log of "impossible". Finite, because differences of infinities are NaN.
IMPOSSIBLE = -1e30


@functools.partial(jax.jit, static_argnames=("blank_id",))
def sequence_log_prob(
    logits: jax.Array, lengths: jax.Array, ids: jax.Array, id_lengths: jax.Array, *, blank_id: int
) -> jax.Array:
    """log p(text | picture) of one given text for every row.

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
