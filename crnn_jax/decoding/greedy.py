"""Greedy (best path) CTC decoding, what it may read, and the probability of a text, on the device.

logits = emittable(logits, unknown_id=charset.unknown_id)
logits = spelled(logits, lengths, Spelling.of(charset))
ids, id_lengths = greedy_decode(logits, lengths, blank_id=charset.blank_id)
log_prob = sequence_log_prob(logits, lengths, ids, id_lengths, blank_id=charset.blank_id)
text, confidence = charset.decode(ids[0, : id_lengths[0]]), exp(log_prob[0])

No argmax, gather or scatter: TFLite has them for fixed shapes only.
"""

import functools
import unicodedata
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crnn_jax.core.charset import Charset

# Finite, because -inf - (-inf) is NaN; exp() of it is exactly 0 in float32 all the same.
FORBIDDEN = -1e9
IMPOSSIBLE = -1e30  # finite too: log of 0
ALPHABETS = ("LATIN", "GREEK", "CYRILLIC")  # some of whose letters look alike


class Spelling(NamedTuple):
    """What `spelled` has to know about the characters of a model."""

    blank_id: int
    space_id: int  # -1 without a space
    alphabet: tuple[int, ...]  # each class's place in `ALPHABETS`, or -1; () if all are of one

    @classmethod
    def of(cls, charset: Charset) -> "Spelling":
        """That of a character table."""
        letters = (s if len(s) == 1 and s.isalpha() else "" for s in charset.symbols)
        names = [unicodedata.name(s, "").split(" ")[0] if s else "" for s in letters]
        alphabet = tuple(ALPHABETS.index(name) if name in ALPHABETS else -1 for name in names)
        space_id = charset.symbols.index(" ") if " " in charset.symbols else -1
        return cls(charset.blank_id, space_id, alphabet if len({*alphabet, -1}) > 2 else ())


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


def spelled(logits: jax.Array, lengths: jax.Array, spelling: Spelling) -> jax.Array:
    """Changes the frames in whose best path spaces or alphabets are not as in a text.

    Letters side by side are of the alphabet that most of them have, or else most letters of the
    text (of any, if two have as many); no space begins or ends a text, or follows another one.

    Args:
        logits: float32 [b t k].
        lengths: int32 [b], real frames of each row.
        spelling: of the k classes; static.

    Returns:
        float32 [b t k], the same numbers where the best path's text is so already.
    """
    if spelling.alphabet:
        logits = _of_one_alphabet(logits, lengths, spelling)
    if spelling.space_id >= 0:
        logits = _singly_spaced(logits, lengths, spelling)
    return logits


def _of_one_alphabet(logits: jax.Array, lengths: jax.Array, spelling: Spelling) -> jax.Array:
    alphabet = np.array(spelling.alphabet)
    table = (alphabet[:, None] == np.arange(len(ALPHABETS))).astype(np.float32)  # --> [k a]
    best = best_class(logits)
    is_class = best[:, :, None] == jnp.arange(len(alphabet), dtype=jnp.int32)[None, None, :]
    letter = jnp.einsum("btk,ka->bta", is_class.astype(jnp.float32), table)
    inside = _inside(best, lengths)
    # A letter may last several frames.
    begins = (inside & (best != _shifted(best, 1, -1))).astype(jnp.float32)
    between = inside & (best != spelling.blank_id) & (letter.sum(axis=-1) == 0)
    number = _sums(between)  # of the run of letters that a frame belongs to
    same = (number[:, :, None] == number[:, None, :]).astype(jnp.float32)
    begun = letter * begins[:, :, None]
    counts = jnp.einsum("bij,bja->bia", same, begun)
    mixed = (counts > 0).astype(jnp.int32).sum(axis=-1, keepdims=True) > 1
    counts += begun.mean(axis=1, keepdims=True) / 2  # below 1: decides where two have as many
    wrong = (mixed & (counts < counts.max(axis=-1, keepdims=True))).astype(jnp.float32)
    return jnp.where(jnp.einsum("bta,ka->btk", wrong, table) > 0, jnp.float32(FORBIDDEN), logits)


def _singly_spaced(logits: jax.Array, lengths: jax.Array, spelling: Spelling) -> jax.Array:
    blank_id, space_id = spelling.blank_id, spelling.space_id
    best = best_class(logits)
    inside = _inside(best, lengths)
    space, blank = inside & (best == space_id), inside & (best == blank_id)
    other = _sums(inside & ~space & ~blank)
    spaces = _sums(space)
    last, total = other.max(axis=1, keepdims=True), spaces.max(axis=1)[:, None, None]
    # Spaces up to the gap's end and start, which is where `other` has the same value.
    same = other[:, :, None] == other[:, None, :]
    until = jnp.where(same, spaces[:, None, :], 0).max(axis=-1)
    since = jnp.where(same, spaces[:, None, :], total).min(axis=-1)
    outside = (other == 0) | (other == last)
    within = blank & ~outside & (spaces > since) & (spaces < until)
    # The blank between two spaces becomes a third one, and the three are one space. A frame counts
    # for blank and space together: else the beams would find spaces, and the text be improbable.
    ends = (space | blank) & outside & (space & outside).any(axis=1, keepdims=True)
    kept = jnp.where(within, space_id, blank_id)[:, :, None]
    classes = jnp.arange(logits.shape[-1], dtype=jnp.int32)[None, None, :]
    of_blank, of_space = (lax.slice_in_dim(logits, i, i + 1, axis=2) for i in (blank_id, space_id))
    either = (classes == blank_id) | (classes == space_id)
    joined = jnp.where(either, jnp.float32(FORBIDDEN), logits)
    joined = jnp.where(classes == kept, jnp.logaddexp(of_blank, of_space), joined)
    return jnp.where((ends | within)[:, :, None], joined, logits)


def _inside(best: jax.Array, lengths: jax.Array) -> jax.Array:
    """bool [b t], the real frames."""
    return jnp.arange(best.shape[1], dtype=jnp.int32)[None, :] < lengths[:, None]


def _sums(marked: jax.Array) -> jax.Array:
    """int32 [b t], the marked frames up to each one, itself included."""
    frame = jnp.arange(marked.shape[1], dtype=jnp.int32)
    earlier = frame[None, None, :] <= frame[None, :, None]
    return (marked[:, None, :] & earlier).astype(jnp.int32).sum(axis=-1)


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
