"""Spaces and letters as texts have them, arranged before any decoder looks at the scores.

logits = emittable(logits, unknown_id=charset.unknown_id)
logits = spelled(logits, lengths, Spelling.of(charset))

A network may see two spaces in one wide gap, or one beside the text; and where alphabets share
shapes, a Cyrillic letter within a Latin word. No argmax, gather or scatter, as in `greedy`.
"""

import unicodedata
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.decoding.greedy import FORBIDDEN, best_class

ALPHABETS = ("LATIN", "GREEK", "CYRILLIC")  # some of whose letters look alike


class Spelling(NamedTuple):
    """What `spelled` has to know about the characters of a model."""

    blank_id: int
    space_id: int  # -1 without a space
    alphabet: tuple[
        int, ...
    ]  # of each class: its place in `ALPHABETS`, or -1; () if all are of one

    @classmethod
    def of(cls, charset: Charset) -> "Spelling":
        """That of a character table."""
        names = [
            unicodedata.name(s, "").split(" ")[0] if len(s) == 1 else "" for s in charset.symbols
        ]
        alphabet = tuple(
            ALPHABETS.index(name) if name in ALPHABETS and symbol.isalpha() else -1
            for name, symbol in zip(names, charset.symbols, strict=True)
        )
        space_id = charset.symbols.index(" ") if " " in charset.symbols else -1
        return cls(charset.blank_id, space_id, alphabet if len({*alphabet, -1}) > 2 else ())


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
    before = jnp.concatenate([jnp.full_like(best[:, :1], -1), best[:, :-1]], axis=1)
    begins = (inside & (best != before)).astype(jnp.float32)  # a letter may last several frames
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
    last = other[:, -1:]
    # Spaces up to the gap's end and start, which is where `other` has the same value.
    same = other[:, :, None] == other[:, None, :]
    until = jnp.where(same, spaces[:, None, :], 0).max(axis=-1)
    since = jnp.where(same, spaces[:, None, :], spaces[:, -1:, None]).min(axis=-1)
    outside = (other == 0) | (other == last)
    within = blank & ~outside & (spaces > since) & (spaces < until)
    # The blank between two spaces becomes a third one, and the three are one space.
    swap = ((space & outside) | within)[:, :, None]
    classes = jnp.arange(logits.shape[-1], dtype=jnp.int32)[None, None, :]
    of_blank = logits[:, :, blank_id : blank_id + 1]
    of_space = logits[:, :, space_id : space_id + 1]
    swapped = jnp.where(classes == space_id, of_blank, logits)
    swapped = jnp.where(classes == blank_id, of_space, swapped)
    return jnp.where(swap, swapped, logits)


def _inside(best: jax.Array, lengths: jax.Array) -> jax.Array:
    """bool [b t], the real frames."""
    return jnp.arange(best.shape[1], dtype=jnp.int32)[None, :] < lengths[:, None]


def _sums(marked: jax.Array) -> jax.Array:
    """int32 [b t], the marked frames up to each one, itself included."""
    frame = jnp.arange(marked.shape[1], dtype=jnp.int32)
    earlier = frame[None, None, :] <= frame[None, :, None]
    return (marked[:, None, :] & earlier).astype(jnp.int32).sum(axis=-1)
