"""CTC prefix beam search on the host, on all cores.

    found = beam_search(log_probs, frames, width=10, blank_id=36, top_paths=3)
    best = found[0][0]
    charset.decode(best.ids), math.exp(best.log_prob)

A greedy reading is the text of the most probable path; this finds the most probable texts, whose
probabilities are sums over their paths.
"""

import atexit
import concurrent.futures
import functools
import importlib
import importlib.util
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.decoding.language_model import NO_MODEL, Automaton
from crnn_jax.decoding.lexicon import NO_TRIE, Lexicon

# A class below this probability extends no text in that frame: changes no text of real images
# (experiments/decoding/README.md).
PRUNE = 1e-5
IMPOSSIBLE = -1e8  # below it a class is never written: `greedy.emittable` has forbidden it
CHUNKS = 4  # a thread: images take unequal time


class Hypothesis(NamedTuple):
    """A text that an image may show."""

    ids: np.ndarray  # int32 [n], class ids
    # log p(text | image) as far as the search has seen its alignments: never above the true one,
    # and equal to it at full width without pruning.
    log_prob: float
    # What hypotheses are ordered by: log_prob, plus the word's log prior, plus lm_weight * log p
    # of the language model, plus length_bonus * characters.
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
    lm: Automaton | None = None,
    lm_weight: float = 1.0,
    length_bonus: float = 0.0,
) -> list[list[Hypothesis]]:
    """The most probable texts of every row, which depend on its own real frames only.

    Wider is not always better: a text may lose its place to one that fades later.

    Args:
        log_probs: float [b, t, k], log-probabilities (of logits: `jax.nn.log_softmax`).
        lengths: int [b], real frames of each row; 0 is allowed.
        width: texts kept from frame to frame, at least 1.
        blank_id: class id of the blank.
        top_paths: texts to return, at most `width` of them are found.
        prune: classes below this probability extend no text in their frame; 0 or a lexicon
            turns it off: the only word may have an improbable letter.
        lexicon: only its words are found. Where none of them is among the texts kept at the end,
            the best of them all.
        lm: prefers texts; see `language_model.Automaton`.
        lm_weight: of the language model's log-probabilities, at least 0.
        length_bonus: added for each character, in nats: a language model alone prefers short texts.

    Returns:
        A list for every row, best first, of different texts: at least one, which is empty and of
        log p -inf if nothing is possible. With a lexicon the list is empty if no word is.

    Raises:
        ValueError: shapes or numbers that make no sense.
        UserError: a lexicon or a language model without numba; no disk space for compiled code.

    References:
        A. Graves, "Supervised Sequence Labelling with Recurrent Neural Networks", 2012, 7.5.
        A. Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using
        Bi-Directional Recurrent DNNs", arXiv 1408.2873, 2014.
    """
    log_probs = np.require(log_probs, np.float32, ["C", "W"])
    lengths = np.asarray(lengths, np.int64)
    b, t, k = log_probs.shape
    # Compiled code checks no index.
    sound = lengths.shape == (b,) and 0 <= lengths.min(initial=0) <= lengths.max(initial=0) <= t
    if not (sound and width >= 1 and top_paths >= 1 and 0 <= blank_id < k):
        raise ValueError(f"{log_probs.shape=}, {lengths=}, {width=}, {top_paths=}, {blank_id=}")
    if lm is not None and lm.first[1] != k:
        raise ValueError(f"a language model of {lm.first[1]} classes for {k}")
    top_paths = min(top_paths, width)
    found: tuple[Any, ...]
    if has_numba():
        found = (
            np.zeros((b, top_paths, t), np.int32),
            np.full((b, top_paths), -1, np.int32),
            np.zeros((b, top_paths)),
            np.zeros((b, top_paths)),
        )
        least = max(math.log(prune), IMPOSSIBLE) if prune > 0 else IMPOSSIBLE
        trie = NO_TRIE if lexicon is None else lexicon.trie
        model = NO_MODEL if lm is None else lm
        weights = (float(lm_weight), float(length_bonus))
        arguments = (width, blank_id, least, trie, model, weights, found)
        try:
            in_threads(functools.partial(_kernel(), log_probs, lengths, *arguments), b)
        except OSError as error:  # what is compiled is kept in a file
            raise UserError(f"no room for the compiled beam search: {error.strerror}") from error
    elif lexicon is not None or lm is not None:
        raise UserError("a lexicon or a language model needs numba: pip install '.[beam]'")
    else:  # slower, and it compiles for every shape
        from crnn_jax.decoding.beam_search_jax import beam_search_jax

        frames = lengths.astype(np.int32)
        paths = {"width": width, "blank_id": blank_id, "top_paths": top_paths}
        ids, counts, p = map(np.asarray, beam_search_jax(log_probs, frames, **paths))
        found = ids, np.where(np.isfinite(p), counts, -1), p, p
    rows = [
        [Hypothesis(ids[:n], p, score) for ids, n, p, score in zip(*row, strict=True) if n >= 0]
        for row in zip(found[0], *(x.tolist() for x in found[1:]), strict=True)
    ]
    nothing = [Hypothesis(np.zeros(0, np.int32), -math.inf, -math.inf)] if lexicon is None else []
    return [row or nothing for row in rows]


@functools.cache
def has_numba() -> bool:
    """Whether numba, which takes half a second to import, is installed."""
    return importlib.util.find_spec("numba") is not None


@functools.cache
def _kernel() -> Any:
    """The compiled search; numba caches it beside its source, or in NUMBA_CACHE_DIR."""
    try:
        kernel = importlib.import_module("crnn_jax.decoding.beam_kernel")
    except RuntimeError:  # there is no folder that numba may write to
        import numba

        numba.config.CACHE_DIR = tempfile.mkdtemp(prefix="crnn_jax-")
        atexit.register(shutil.rmtree, numba.config.CACHE_DIR, ignore_errors=True)
        kernel = importlib.import_module("crnn_jax.decoding.beam_kernel")
    kept = Path(kernel.search_rows.stats.cache_path).glob("beam_kernel.search_rows-*.nbi")
    changed = os.path.getmtime(str(kernel.__file__))
    if not any(path.stat().st_mtime > changed for path in kept):
        print("compiling the beam search, once: about 6 s", file=sys.stderr)
    return kernel.search_rows


def in_threads(function: Callable[[int, int], Any], count: int) -> None:
    """Calls `function(start, stop)` for chunks of range(count), on every core.

    Threads, with compiled code that releases Python's lock: numba's `prange` ends the process if
    two threads of a server use it at once.
    """
    size = max(count // (CHUNKS * _cores()), 1)
    with concurrent.futures.ThreadPoolExecutor(_cores()) as pool:
        starts = range(0, count, size)
        list(pool.map(lambda start: function(start, min(start + size, count)), starts))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
