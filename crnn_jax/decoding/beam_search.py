"""CTC prefix beam search on the host, on all cores.

Synopsis:

    found = beam_search(log_probs, frames, width=10, blank_id=36, top_paths=3)
    best = found[0][0]
    charset.decode(best.ids), math.exp(best.log_prob)

A greedy reading is the text of the one most probable path; this looks for the most probable text,
whose probability is the sum over its paths, and for those next to it. A lexicon keeps it to a list
of words, a language model prefers what is usual.
"""

import math
import numbers
from typing import Any, NamedTuple

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.decoding import compiled
from crnn_jax.decoding.language_model import NO_MODEL, LanguageModel, checked
from crnn_jax.decoding.lexicon import NO_TRIE, Lexicon

# A class below this probability prolongs no text in that frame. Measured on real word pictures, it
# changes no text at widths 10 and 100: see experiments/decoding/README.md.
PRUNE = 1e-5
# What `greedy.emittable` and log 0 leave of a class: below it a class is never written.
IMPOSSIBLE = -1e8


class Hypothesis(NamedTuple):
    """A text that a picture may show.

    Attributes:
        ids: int32 [n], class ids.
        log_prob: log p(text | picture) as far as the search has seen its alignments: never above
            the true one, and equal to it at full width without pruning.
        score: what hypotheses are ordered by: log_prob, plus the word's log prior, plus
            lm_weight * log p of the language model, plus length_bonus * characters.
    """

    ids: np.ndarray
    log_prob: float
    score: float


def beam_search(
    log_probs: np.ndarray,
    lengths: np.ndarray,
    *,
    width: int,
    blank_id: int,
    top_paths: int = 1,
    prune: float = PRUNE,
    lexicon: Lexicon | None = None,
    lm: LanguageModel | None = None,
    lm_weight: float = 1.0,
    length_bonus: float = 0.0,
) -> list[list[Hypothesis]]:
    """The most probable texts of every row.

    A row's answer depends on nothing but its own real frames. Wider is not always better: a text
    may lose its place to one that fades later.

    Args:
        log_probs: float [b, t, k], log-probabilities (of logits: `jax.nn.log_softmax`); -inf is
            allowed.
        lengths: int [b], real frames of each row; 0 is allowed.
        width: texts kept from frame to frame, at least 1.
        blank_id: class id of the blank.
        top_paths: texts to return, at most `width` of them are found.
        prune: classes below this probability prolong no text in their frame; 0 turns it off. A
            lexicon turns it off too: the only word may have an improbable letter.
        lexicon: only its words are found.
        lm: prefers texts; see `language_model`.
        lm_weight: of the language model's log-probabilities, at least 0.
        length_bonus: added for each character, in nats: a language model alone prefers short texts.

    Returns:
        A list for every row, best first, of different texts, at least one: where nothing is
        possible it is the empty text of log p -inf. With a lexicon the list is empty where the
        search has met no word of it.

    Raises:
        ValueError: shapes or numbers that make no sense.
        UserError: a lexicon or a language model without numba.

    References:
        A. Graves, "Supervised Sequence Labelling with Recurrent Neural Networks", 2012, 7.5.
        A. Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using
        Bi-Directional Recurrent DNNs", arXiv 1408.2873, 2014.
    """
    log_probs = np.require(log_probs, np.float32, ["C", "W"])
    lengths = np.asarray(lengths, np.int64)
    _check(log_probs, lengths, width, blank_id, top_paths, prune, lm_weight, length_bonus)
    top_paths = min(top_paths, width)
    if not compiled.available():
        if lexicon is not None or lm is not None:
            raise UserError("a lexicon or a language model needs numba: pip install crnn_jax[beam]")
        return _on_device(log_probs, lengths, width, blank_id, top_paths)
    trie = NO_TRIE if lexicon is None else lexicon.trie
    b, t, k = log_probs.shape
    model = NO_MODEL if lm is None else checked(lm.automaton(), k)
    found = (
        np.zeros((b, top_paths, t), np.int32),
        np.full((b, top_paths), -1, np.int32),
        np.zeros((b, top_paths)),
        np.zeros((b, top_paths)),
    )
    least = max(math.log(prune), IMPOSSIBLE) if prune > 0 else IMPOSSIBLE
    search_rows = compiled.kernels("beam_kernel").search_rows

    def search(start: int, stop: int) -> None:
        search_rows(
            log_probs,
            lengths,
            start,
            stop,
            width,
            blank_id,
            least,
            trie,
            model,
            (float(lm_weight), float(length_bonus)),
            found,
        )

    compiled.in_threads(search, b)
    return _hypotheses(*found, empty=lexicon is None)


def is_count(number: Any) -> bool:
    """Whether it is a whole number, at least 1."""
    return isinstance(number, numbers.Integral) and int(number) >= 1


def _check(
    log_probs: np.ndarray,
    lengths: np.ndarray,
    width: int,
    blank_id: int,
    top_paths: int,
    prune: float,
    lm_weight: float,
    length_bonus: float,
) -> None:
    if log_probs.ndim != 3 or lengths.shape != log_probs.shape[:1]:
        raise ValueError(
            f"want log_probs [b t k] and lengths [b], got {list(log_probs.shape)} and "
            f"{list(lengths.shape)}"
        )
    if len(lengths) and not 0 <= lengths.min() <= lengths.max() <= log_probs.shape[1]:
        raise ValueError(f"lengths must be within 0 and {log_probs.shape[1]}")
    if not (is_count(width) and is_count(top_paths)):
        raise ValueError(f"width={width}, top_paths={top_paths}: whole numbers, at least 1")
    if not 0 <= blank_id < log_probs.shape[2]:
        raise ValueError(f"blank_id={blank_id} of {log_probs.shape[2]} classes")
    if not 0 <= prune <= 1:
        raise ValueError(f"prune={prune}: a probability")
    if not (0 <= lm_weight < math.inf and math.isfinite(length_bonus)):
        raise ValueError(f"lm_weight={lm_weight}, length_bonus={length_bonus}: at least 0, finite")


def _on_device(
    log_probs: np.ndarray, lengths: np.ndarray, width: int, blank_id: int, top_paths: int
) -> list[list[Hypothesis]]:
    """The same without numba: slower, and it compiles for every shape."""
    from crnn_jax.decoding.beam_search_jax import beam_search_jax

    ids, id_lengths, log_prob = beam_search_jax(
        log_probs, lengths.astype(np.int32), width=width, blank_id=blank_id, top_paths=top_paths
    )
    numbers = np.asarray(log_prob, float)
    counts = np.where(np.isfinite(numbers), np.asarray(id_lengths), -1)
    return _hypotheses(np.asarray(ids), counts, numbers, numbers, empty=True)


def _hypotheses(
    ids: np.ndarray,
    id_lengths: np.ndarray,
    log_probs: np.ndarray,
    scores: np.ndarray,
    *,
    empty: bool,
) -> list[list[Hypothesis]]:
    """Arrays [b, n, ..] as lists; `empty`: a row without any text gets the empty one."""
    rows = []
    for row, counts in enumerate(id_lengths.tolist()):
        row_log_probs, row_scores = log_probs[row].tolist(), scores[row].tolist()
        hypotheses = [
            Hypothesis(ids[row, i, :n], row_log_probs[i], row_scores[i])
            for i, n in enumerate(counts)
            if n >= 0
        ]
        if not hypotheses and empty:
            hypotheses = [Hypothesis(np.zeros(0, np.int32), -math.inf, -math.inf)]
        rows.append(hypotheses)
    return rows
