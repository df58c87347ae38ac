"""Whether confidences are calibrated: of readings with confidence 0.9, nine of ten are correct.

All take one entry a sample: confidence, float [n] from 0 to 1, and right, bool [n].
"""

from typing import Any, NamedTuple

import numpy as np

BINS = 15  # Guo et al.'s
PRECISION = 0.99
FINE_STEPS = 1001
# log p is clipped to these: a wrong text with p = 1 would cost infinitely much, and so would -inf.
IMPOSSIBLE, SURE = -1e4, -1e-6


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """The mean over the samples of |accuracy - mean confidence| of the sample's bin, of 15.

    C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2.
    """
    if len(confidence) == 0:
        return 0.0
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    surplus = np.bincount(place, right - confidence, minlength=BINS)
    return float(np.abs(surplus).sum() / len(confidence))


class Bin(NamedTuple):
    """Samples with low <= confidence < low + 0.1 (the last holds 1 too)."""

    low: float
    samples: int
    right: int
    confidence: float  # their mean


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[Bin]:
    """Samples by confidence, in bins of 0.1; those without samples are left out."""
    place = np.minimum((confidence * 10).astype(int), 9)
    owns = [(k, place == k) for k in np.unique(place).tolist()]
    return [
        Bin(k / 10, int(own.sum()), int(right[own].sum()), float(confidence[own].mean()))
        for k, own in owns
    ]


def threshold_curve(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the samples that falling thresholds keep, and the accuracy of these."""
    order = np.argsort(-confidence, kind="stable")
    counts = np.arange(1, len(order) + 1)
    shares = np.cumsum(right[order]) / counts
    last = np.diff(confidence[order], append=-1) != 0  # no threshold separates equals
    return counts[last] / max(len(order), 1), shares[last]


def coverage_at_precision(confidence: np.ndarray, right: np.ndarray, precision: float) -> float:
    """The largest share of samples that a threshold keeps with at least this accuracy."""
    kept, share_right = threshold_curve(confidence, right)
    return float(kept[share_right >= precision].max(initial=0.0))


def summary(confidence: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """What an evaluation reports of its confidences, as JSON values; nothing without samples."""
    if len(confidence) == 0:
        return {}
    return {
        "calibration_error": expected_calibration_error(confidence, right),
        "coverage_at_99": coverage_at_precision(confidence, right, PRECISION),
    }


def best_temperature(
    temperatures: np.ndarray, log_probs: np.ndarray, right: np.ndarray
) -> tuple[float, float]:
    """The temperature at which confidences explain best which readings are right; the loss there.

    Args:
        temperatures: float [g], rising: those that were tried. Between them log p is taken as
            linear in the temperature's log.
        log_probs: float [n, g], log p(text | image) of each reading at each of them.
        right: bool [n, g], or [n] where readings do not depend on it; between temperatures what it
            is at the nearer one.
    """
    right = np.broadcast_to(right.reshape(len(right), -1), log_probs.shape)
    logs = np.log(temperatures)
    log_probs = np.maximum(log_probs, IMPOSSIBLE)
    tried = np.linspace(logs[0], logs[-1], FINE_STEPS)
    losses = []
    for log in tried:
        upper = int(np.clip(np.searchsorted(logs, log), 1, len(logs) - 1))
        part = (log - logs[upper - 1]) / (logs[upper] - logs[upper - 1])
        log_prob = (1 - part) * log_probs[:, upper - 1] + part * log_probs[:, upper]
        log_prob = np.minimum(log_prob, SURE)
        is_right = right[:, upper if part > 0.5 else upper - 1]
        losses.append(-np.where(is_right, log_prob, np.log(-np.expm1(log_prob))).mean())
    best = int(np.argmin(losses))
    return float(np.exp(tried[best])), float(losses[best])
