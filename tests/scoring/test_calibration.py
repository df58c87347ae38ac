import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.scoring.calibration import (
    accuracy_at_coverage,
    best_temperature,
    coverage_at_precision,
    expected_calibration_error,
    reliability,
    summary,
    threshold_curve,
)

samples = st.lists(
    st.tuples(st.integers(0, 20).map(lambda n: n / 20), st.booleans()), min_size=1, max_size=40
)


def arrays(pairs):
    return np.array([c for c, _ in pairs]), np.array([r for _, r in pairs])


def test_error_of_a_known_case():
    # Two bins: 4 samples at 0.9 of which 2 are right, 1 at 0.2 that is right.
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.2])
    right = np.array([True, True, False, False, True])
    assert expected_calibration_error(confidence, right) == pytest.approx((4 * 0.4 + 0.8) / 5)


def test_honest_confidences_have_no_error():
    random = np.random.default_rng(0)
    confidence = random.random(200_000)
    right = random.random(200_000) < confidence
    assert expected_calibration_error(confidence, right) < 0.01
    assert expected_calibration_error(confidence**3, right) > 0.1
    assert expected_calibration_error(np.ones(3), np.ones(3, bool)) == 0


@settings(max_examples=200, deadline=None)
@given(samples, st.sampled_from([0.5, 0.75, 0.99]))
def test_coverage_equals_trying_every_threshold(pairs, precision):
    confidence, right = arrays(pairs)
    shares = [
        (confidence >= threshold).mean()
        for threshold in set(confidence.tolist())
        if right[confidence >= threshold].mean() >= precision
    ]
    assert coverage_at_precision(confidence, right, precision) == max(shares, default=0)


@settings(max_examples=200, deadline=None)
@given(samples, st.sampled_from([0.1, 0.5, 1.0]))
def test_accuracy_equals_trying_every_threshold(pairs, coverage):
    confidence, right = arrays(pairs)
    threshold = max(t for t in confidence if (confidence >= t).mean() >= coverage - 1e-9)
    want = right[confidence >= threshold].mean()
    assert accuracy_at_coverage(confidence, right, coverage) == pytest.approx(want)


def test_summary():
    told = summary(np.array([0.9, 0.8, 0.1, 0.05]), np.array([True, True, False, True]))
    assert told["coverage_at_99"] == 0.5
    assert told["accuracy_at_coverage"] == {"0.5": 1, "0.8": 0.75, "0.9": 0.75, "0.95": 0.75}
    assert told["calibration_error"] == pytest.approx((0.1 + 0.2 + 0.1 + 0.95) / 4)
    assert summary(np.zeros(0), np.zeros(0, bool)) == {}


@pytest.mark.parametrize("true", [0.6, 1.0, 2.5])
def test_the_temperature_that_made_them_is_found(true):
    random = np.random.default_rng(1)
    logits = random.normal(size=20_000) * 3

    def log_prob(temperature):
        return -np.logaddexp(0, -logits / temperature)

    right = random.random(20_000) < np.exp(log_prob(true))
    tried = np.geomspace(0.25, 5, 25)
    found, loss = best_temperature(tried, np.stack([log_prob(t) for t in tried], 1), right)
    assert found == pytest.approx(true, rel=0.06)
    want = -np.where(right, log_prob(true), np.log1p(-np.exp(log_prob(true)))).mean()
    assert loss == pytest.approx(want, abs=1e-3)


def test_certain_and_wrong_costs_much_but_not_all():
    log_probs = np.array([[0.0, -1.0], [0.0, -1.0]])
    found, loss = best_temperature(np.array([1.0, 2.0]), log_probs, np.array([True, False]))
    assert found > 1.5
    assert np.isfinite(loss)
    found, _ = best_temperature(np.array([1.0, 2.0]), np.full((2, 2), -np.inf), np.zeros(2, bool))
    assert np.isfinite(found)


def test_no_samples():
    with pytest.raises(ValueError, match="0 samples"):
        best_temperature(np.array([1.0, 2.0]), np.zeros((0, 2)), np.zeros(0, bool))


def test_reliability_counts_every_sample_once():
    confidence = np.array([0.0, 0.05, 0.1, 0.15, 0.99, 1.0])
    right = np.array([False, True, False, True, True, True])
    bins = reliability(confidence, right)
    assert [(b.low, b.high, b.samples, b.right) for b in bins] == [
        (0.0, 0.1, 2, 1),
        (0.1, 0.2, 2, 1),
        (0.9, 1.0, 2, 2),
    ]
    assert bins[1].confidence == pytest.approx(0.125)
    assert reliability(confidence[:0], right[:0]) == []


def test_threshold_curve_ends_at_the_accuracy():
    kept, share = threshold_curve(np.array([0.2, 0.9, 0.9, 0.5]), np.array([0, 1, 0, 1], bool))
    assert kept.tolist() == [0.5, 0.75, 1.0]
    assert share.tolist() == [0.5, 2 / 3, 0.5]
