"""CTC prefix beam search as one compiled program of fixed shapes, for accelerators and exports.

The plain search of `beam_search`, without lexicon and language model; it also serves where numba
is missing. Equal prefixes are found by comparing the kept texts with each other.

    ids, lengths, log_prob = beam_search_jax(log_probs, frames, width=10, blank_id=36)
    text = charset.decode(ids[0, 0, : lengths[0, 0]])
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

# Log of "impossible". Finite, because differences of infinities are NaN.
IMPOSSIBLE = -1e30
# Below this a text is none: it holds a class that `greedy.emittable` has forbidden (-1e9).
LEAST = -1e8


class _Beams(NamedTuple):
    """The texts kept after a frame, best first; where there is none both log p are IMPOSSIBLE."""

    ids: jax.Array  # int32 [b, w, t], -1 behind the text
    length: jax.Array  # int32 [b, w]
    last: jax.Array  # int32 [b, w], -1 of the empty text
    blank: jax.Array  # float32 [b, w], log p of the alignments that end in a blank
    same: jax.Array  # float32 [b, w], log p of those that end in the last class


@functools.partial(jax.jit, static_argnames=("width", "blank_id", "top_paths", "by_sorting"))
def beam_search_jax(
    log_probs: jax.Array,
    lengths: jax.Array,
    *,
    width: int,
    blank_id: int,
    top_paths: int = 1,
    by_sorting: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The most probable texts of every row.

    Args:
        log_probs, lengths, width, blank_id, top_paths: as in `beam_search`.
        by_sorting: finds the best by a sort, for exports: TensorFlow cannot load a `lax.top_k` of
            free shapes.

    Returns:
        ids int32 [b, top_paths, t], best first, -1 behind each text; their lengths int32
        [b, top_paths]; log p(text | image) float32 [b, top_paths], at most 0, as far as the
        search has seen its alignments. Where there are fewer texts, an empty one of log p -inf.
    """
    b, t, k = log_probs.shape
    log_probs = jnp.maximum(log_probs.astype(jnp.float32), IMPOSSIBLE)  # -inf may be among them
    # A class of lower rank has `width` better extensions of the same prefix ahead of it: one of
    # these may be a repeat and count for less.
    limit = min(k - 1, width + 1)
    classes = jnp.arange(k, dtype=jnp.int32)
    without_blank = jnp.where((classes == blank_id)[None, None, :], -jnp.inf, log_probs)
    top_k = _top_k_by_sorting if by_sorting else lax.top_k
    token_log_prob, token = top_k(without_blank, limit)  # --> [b, t, limit] twice

    first = (jnp.arange(width, dtype=jnp.int32) == 0)[None, :]
    start = _Beams(
        jnp.full((b, width, t), -1, jnp.int32),
        jnp.zeros((b, width), jnp.int32),
        jnp.full((b, width), -1, jnp.int32),
        jnp.broadcast_to(jnp.where(first, 0.0, IMPOSSIBLE), (b, width)),
        jnp.full((b, width), IMPOSSIBLE, jnp.float32),
    )

    def step(beams, frame):
        log_prob, best, best_log_prob, index = frame
        after = _step(beams, log_prob, best.astype(jnp.int32), best_log_prob, blank_id, top_k)
        real = index < lengths  # [b]
        chosen = [
            jnp.where(real.reshape((b,) + (1,) * (new.ndim - 1)), new, old)
            for new, old in zip(after, beams, strict=True)
        ]
        return _Beams(*chosen), None

    by_frame = [x.swapaxes(0, 1) for x in (log_probs, token, token_log_prob)]
    beams, _ = lax.scan(step, start, (*by_frame, jnp.arange(t, dtype=jnp.int32)))
    total = jnp.logaddexp(beams.blank, beams.same)[:, :top_paths]
    found = total > LEAST
    ids = jnp.where(found[:, :, None], beams.ids[:, :top_paths], -1)
    length = jnp.where(found, beams.length[:, :top_paths], 0)
    return ids, length, jnp.where(found, jnp.minimum(total, 0.0), -jnp.inf)


def _top_k_by_sorting(x: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """`lax.top_k`: of equals the first."""
    place = lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
    falling, place = lax.sort((-x, place), num_keys=1, is_stable=True)
    return -falling[..., :k], place[..., :k]


def _step(
    beams: _Beams,
    log_prob: jax.Array,
    token: jax.Array,
    token_log_prob: jax.Array,
    blank_id: int,
    top_k: Any,
) -> _Beams:
    """One frame: its log-probabilities [b, k] and best classes [b, n] with theirs."""
    b, w, t = beams.ids.shape
    total = jnp.logaddexp(beams.blank, beams.same)
    kept = total > LEAST
    position = jnp.arange(t, dtype=jnp.int32)[None, None, :]
    parent_ids = jnp.where(position == beams.length[:, :, None] - 1, -1, beams.ids)
    # is_parent[b, i, j]: text j is text i without its last class.
    is_parent = (parent_ids[:, :, None] == beams.ids[:, None]).all(axis=-1)
    is_parent &= beams.length[:, :, None] == beams.length[:, None] + 1
    is_parent &= kept[:, :, None] & kept[:, None]  # an empty place may hold old ids
    has_parent = is_parent.any(axis=-1)
    parent = is_parent.argmax(axis=-1)  # --> [b, w]

    # Texts that stay: by a blank, by their last class, or written anew from their parent.
    blank = total + log_prob[:, blank_id, None]
    of_last = jnp.take_along_axis(log_prob, jnp.maximum(beams.last, 0), axis=1)
    same = jnp.where(beams.last < 0, IMPOSSIBLE, beams.same + of_last)
    # A class after itself needs a blank between.
    repeats = jnp.take_along_axis(beams.last, parent, axis=1) == beams.last
    before = jnp.where(
        repeats,
        jnp.take_along_axis(beams.blank, parent, axis=1),
        jnp.take_along_axis(total, parent, axis=1),
    )
    same = jnp.where(has_parent, jnp.logaddexp(same, before + of_last), same)

    # Texts prolonged by a class; those that are kept already have been counted above.
    repeats = token[:, None, :] == beams.last[:, :, None]  # --> [b, w, n]
    before = jnp.where(repeats, beams.blank[:, :, None], total[:, :, None])
    is_child = is_parent[:, :, :, None] & (beams.last[:, :, None, None] == token[:, None, None, :])
    prolonged = jnp.where(is_child.any(axis=1), IMPOSSIBLE, before + token_log_prob[:, None, :])

    n = token.shape[1]
    stays = jnp.logaddexp(blank, same)
    prolongs = _keep_their_place(stays, prolonged)
    prolonged = jnp.where(prolongs[:, :, None], prolonged, IMPOSSIBLE)
    score = jnp.concatenate([stays, prolonged.reshape(b, w * n)], axis=1)
    score, choice = top_k(jnp.maximum(score, IMPOSSIBLE), w)
    new = choice >= w
    source = jnp.where(new, (choice - w) // max(n, 1), choice)
    c = jnp.take_along_axis(token, jnp.where(new, (choice - w) % max(n, 1), 0), axis=1)
    length = jnp.take_along_axis(beams.length, source, axis=1)
    ids = jnp.take_along_axis(beams.ids, source[:, :, None], axis=1)
    ends_here = new[:, :, None] & (position == length[:, :, None])
    return _Beams(
        jnp.where(ends_here, c[:, :, None], ids),
        length + new,
        jnp.where(new, c, jnp.take_along_axis(beams.last, source, axis=1)),
        jnp.where(new, IMPOSSIBLE, jnp.take_along_axis(blank, source, axis=1)),
        jnp.where(new, score, jnp.take_along_axis(same, source, axis=1)),
    )


def _keep_their_place(stays: jax.Array, prolonged: jax.Array) -> jax.Array:
    """Which texts are prolonged: see `beam_kernel`. [b, w], [b, w, n] --> bool [b, w]."""
    w = stays.shape[1]
    # How many come ahead of each text: of those that stay, and of what each other one writes.
    ahead = (stays[:, None, :] > stays[:, :, None]).sum(axis=2, dtype=jnp.int32)
    written = (prolonged[:, :, :, None] > stays[:, None, None, :]).sum(axis=2, dtype=jnp.int32)

    def walk(ahead, text):
        number, ahead_of = text  # [], [b, w]
        keeps = ahead[:, number] < w
        return ahead + keeps[:, None] * ahead_of, keeps

    _, keeps = lax.scan(walk, ahead, (jnp.arange(w), written.swapaxes(0, 1)))
    return keeps.swapaxes(0, 1)
