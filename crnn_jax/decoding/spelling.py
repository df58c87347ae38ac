"""Words of a lexicon near a text, and which of them the picture shows.

Synopsis:

    neighbours = Neighbours.of(lexicon, distance=2)
    found = rerank(log_probs, frames, ids, id_lengths, neighbours, blank_id=36)

This is the lexicon-based transcription of B. Shi et al., arXiv 1507.05717, section 2.3.2: the
words within edit distance d of the greedy text, and of them the one that the picture makes most
probable. They search a BK-tree; here every word is filed under what is left of it when up to d
characters are deleted, and a text is looked up under what is left of it: two strings within
distance d share one of these keys (W. Garbe's SymSpell, 2012).
"""

import dataclasses
import itertools

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.decoding import compiled
from crnn_jax.decoding.beam_search import Hypothesis
from crnn_jax.decoding.lexicon import Lexicon

# Only so many characters of a word are filed: at distance 2 that is at most 29 keys a word and
# 350 MB for a million words, where whole words of 10 letters have 56 keys. Still every word is
# found: of two strings within distance d, beginnings of one length share a key too.
PREFIX = 7
MAX_DISTANCE = 3  # 64 keys a word; the next would be 99, and every short word near every other
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2 ** 64 / golden ratio


@dataclasses.dataclass(frozen=True, eq=False)
class Neighbours:
    """A lexicon's words by what deletions leave of them.

    Attributes:
        lexicon: the words.
        distance: edits (insertions, deletions, substitutions) within which words are found.
        keys: uint64 [m], rising; different strings may share one.
        words: int32 [m], which word each key belongs to.
    """

    lexicon: Lexicon
    distance: int
    keys: np.ndarray
    words: np.ndarray

    @classmethod
    def of(cls, lexicon: Lexicon, distance: int = 2) -> "Neighbours":
        """Files every word.

        Raises:
            ValueError: a distance below 0 or above `MAX_DISTANCE`.
        """
        if not 0 <= distance <= MAX_DISTANCE:
            raise ValueError(f"distance={distance}: 0 to {MAX_DISTANCE}")
        lengths = np.diff(lexicon.offsets)
        keys, words = [], []
        for n in range(1, PREFIX + 1):
            chosen = np.flatnonzero(lengths == n if n < PREFIX else lengths >= n)
            beginning = lexicon.ids[lexicon.offsets[chosen, None] + np.arange(n)]  # --> [words, n]
            for key in _deletions(beginning, distance):
                keys.append(key)
                words.append(chosen.astype(np.int32))
        every, word = np.concatenate(keys), np.concatenate(words)
        order = np.argsort(every)
        return cls(lexicon, distance, every[order], word[order])

    def near(self, ids: np.ndarray) -> np.ndarray:
        """The words that may lie within the distance of a text, and some that do not.

        Args:
            ids: int [n], class ids of the text.

        Returns:
            int32 [m], words of the lexicon, rising.
        """
        keys = np.unique(np.concatenate(_deletions(np.asarray(ids)[None, :PREFIX], self.distance)))
        low = np.searchsorted(self.keys, keys, "left")
        high = np.searchsorted(self.keys, keys, "right")
        parts = [self.words[a:b] for a, b in zip(low, high, strict=True)]
        return np.unique(np.concatenate(parts))


def rerank(
    log_probs: np.ndarray,
    lengths: np.ndarray,
    ids: np.ndarray,
    id_lengths: np.ndarray,
    neighbours: Neighbours,
    *,
    blank_id: int,
    top_paths: int = 1,
) -> list[list[Hypothesis]]:
    """Of the words near each text, those the picture makes most probable.

    Args:
        log_probs: float [b, t, k], log-probabilities.
        lengths: int [b], real frames of each row.
        ids: int [b, n], class ids of the texts, from greedy decoding; what lies behind
            `id_lengths` is ignored.
        id_lengths: int [b], characters of each text.
        neighbours: of the lexicon.
        blank_id: class id of the blank.
        top_paths: words to return at most.

    Returns:
        A list for every row, best first; empty where no word within the distance fits into the
        frames. `log_prob` is the word's true log p(text | picture), `score` that plus its log
        prior.

    Raises:
        UserError: numba is not installed.
    """
    if not compiled.available():
        raise UserError("a lexicon needs numba: pip install crnn_jax[beam]")
    log_probs = np.require(log_probs, np.float32, ["C", "W"])
    texts = [row[:n] for row, n in zip(np.asarray(ids), np.asarray(id_lengths), strict=True)]
    near = [neighbours.near(text) for text in texts]
    offsets = np.cumsum([0] + [len(words) for words in near])
    lexicon, b = neighbours.lexicon, len(texts)
    found = (np.full((b, top_paths), -1, np.int32), *np.zeros((2, b, top_paths)))
    score_rows = compiled.kernels("spelling_kernel").score_rows
    arguments = (
        log_probs,
        np.asarray(lengths, np.int64),
        np.require(ids, np.int32, ["C", "W"]),
        np.asarray(id_lengths, np.int64),
        np.concatenate(near) if b else np.zeros(0, np.int32),
        offsets,
        (lexicon.ids, lexicon.offsets, lexicon.log_prior),
        blank_id,
        neighbours.distance,
        found,
    )
    compiled.in_threads(lambda start, stop: score_rows(start, stop, *arguments), b)
    return [
        [
            Hypothesis(lexicon.ids[lexicon.offsets[word] : lexicon.offsets[word + 1]], p, score)
            for word, p, score in zip(*(part[row].tolist() for part in found), strict=True)
            if word >= 0
        ]
        for row in range(b)
    ]


def _deletions(ids: np.ndarray, distance: int) -> list[np.ndarray]:
    """Keys of what is left of ids [m, n] without any up to `distance` places: uint64 [m] each."""
    n = ids.shape[1]
    characters = (ids + 1).astype(np.uint64)
    keys = []
    for left in range(max(n - distance, 0), n + 1):
        for places in itertools.combinations(range(n), left):
            key = np.zeros(len(ids), np.uint64)
            for place in places:
                key = (key ^ characters[:, place]) * _FACTOR
                key ^= key >> np.uint64(29)
            keys.append(key)
    return keys
