"""Scores many words for a picture, compiled by numba; `spelling.rerank` is what to call."""

import numba
import numpy as np

from crnn_jax.decoding.add_logs import add_logs
from crnn_jax.decoding.bounded_heap import offer, sort_descending


@numba.njit(nogil=True, cache=True)
def score_rows(
    start: int,
    stop: int,
    log_probs: np.ndarray,
    lengths: np.ndarray,
    ids: np.ndarray,
    id_lengths: np.ndarray,
    candidates: np.ndarray,
    offsets: np.ndarray,
    words: tuple[np.ndarray, np.ndarray, np.ndarray],
    blank_id: int,
    distance: int,
    found: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """The best words of the rows [start, stop) of a batch.

    Args:
        start, stop: the rows.
        log_probs: float32 [b, t, k].
        lengths: int64 [b].
        ids: int32 [b, n], the texts read.
        id_lengths: int64 [b].
        candidates: int32, words that may be near, row after row.
        offsets: int64 [b + 1], row i's are candidates[offsets[i] : offsets[i + 1]].
        words: (class ids of all words, their offsets, log priors), as `Lexicon` has them.
        blank_id: class id of the blank.
        distance: edits allowed.
        found: (word int32 [b, n], log p float64 [b, n], score float64 [b, n]), to be filled; the
            word is -1 where fewer are found.
    """
    word_ids, word_offsets, log_prior = words
    top = found[0].shape[1]
    keys, items = np.empty(top, np.float64), np.empty(top, np.int64)
    for row in range(start, stop):
        text = ids[row, : id_lengths[row]]
        frames = log_probs[row, : lengths[row]]
        size = 0
        for i in range(offsets[row], offsets[row + 1]):
            word = candidates[i]
            letters = word_ids[word_offsets[word] : word_offsets[word + 1]]
            if not _within(text, letters, distance):
                continue
            score = text_log_prob(frames, letters, blank_id) + log_prior[word]
            if score > -np.inf:
                size = offer(keys, items, size, top, score, word)
        sort_descending(keys, items, size)
        for r in range(size):
            found[0][row, r], found[2][row, r] = items[r], keys[r]
            found[1][row, r] = min(keys[r] - log_prior[items[r]], 0.0)


@numba.njit(nogil=True, cache=True)
def text_log_prob(frames: np.ndarray, letters: np.ndarray, blank_id: int) -> float:
    """log p of one text, summed over its alignments; as `confidence.sequence_log_prob`.

    Args:
        frames: float32 [t, k], log-probabilities of the real frames.
        letters: int32 [n], class ids of the text.
        blank_id: class id of the blank.
    """
    n = len(letters)
    # log p of the alignments that have written i letters, and end in a blank or in letter i.
    blank, same = np.full(n + 1, -np.inf), np.full(n + 1, -np.inf)
    blank[0] = 0.0
    for t in range(len(frames)):
        for i in range(min(n, t + 1), 0, -1):  # from behind: what is before i is of frame t - 1
            c = letters[i - 1]
            arrive = blank[i - 1]
            if i > 1 and letters[i - 2] != c:
                arrive = add_logs(arrive, same[i - 1])
            blank[i] = add_logs(blank[i], same[i]) + frames[t, blank_id]
            same[i] = add_logs(same[i], arrive) + frames[t, c]
        blank[0] += frames[t, blank_id]
    return add_logs(blank[n], same[n])


@numba.njit(nogil=True, cache=True)
def _within(a, b, distance):
    """Whether the edit distance of two texts is at most `distance`."""
    if abs(len(a) - len(b)) > distance:
        return False
    row = np.arange(len(b) + 1)
    for i in range(len(a)):
        diagonal, least = row[0], i + 1
        row[0] = i + 1
        for j in range(len(b)):
            cost = min(diagonal + (a[i] != b[j]), row[j] + 1, row[j + 1] + 1)
            diagonal, row[j + 1] = row[j + 1], cost
            least = min(least, cost)
        if least > distance:
            return False
    return row[len(b)] <= distance
