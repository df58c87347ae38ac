"""Every text that a few frames can spell, with its probability: by writing down every path."""

import itertools
import math

import numpy as np


def collapse(path, blank_id):
    """CTC's rule in its own words: merge runs, then drop blanks."""
    return tuple(k for k, _ in itertools.groupby(path) if k != blank_id)


def all_texts(log_probs: np.ndarray, blank_id: int) -> dict[tuple[int, ...], float]:
    """Text -> log p(text), of log_probs [t, k]; texts of probability 0 are left out."""
    probs = np.exp(np.asarray(log_probs, float))
    total: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(probs.shape[1]), repeat=len(probs)):
        text = collapse(path, blank_id)
        p = math.prod(probs[t, k] for t, k in enumerate(path))
        total[text] = total.get(text, 0.0) + p
    return {text: math.log(p) for text, p in total.items() if p > 0}


def log_softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis; float32, as a network gives it."""
    x = np.asarray(x, float)
    x = x - x.max(axis=-1, keepdims=True)
    return (x - np.log(np.exp(x).sum(axis=-1, keepdims=True))).astype(np.float32)


def peaked(seed: int, b: int, t: int, k: int, blank_id: int) -> np.ndarray:
    """Log-probabilities [b, t, k] shaped like a trained network's: blanks between sharp peaks."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(b, t, k))
    best = random.integers(0, k, (b, t, 1))
    best[random.random((b, t, 1)) < 0.5] = blank_id
    height = random.uniform(0, 12, (b, t, 1))
    np.put_along_axis(logits, best, np.take_along_axis(logits, best, 2) + height, 2)
    return log_softmax(logits)


def runner_up() -> np.ndarray:
    """Log-probabilities [1, 3, 3] (blank 0): a search of width 1 has to look at the second class.

    "1" is certain after a frame, after two by a blank as much as by its repeat; then "11" and "1"
    share the best class between them, and "12" of the second-best is ahead of both.
    """
    frames = [[0.0, 1.0, 0.0], [0.5, 0.5, 0.0], [0.1, 0.5, 0.4]]
    with np.errstate(divide="ignore"):
        return np.log(np.array([frames], np.float32))
