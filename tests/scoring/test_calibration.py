import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.scoring.calibration import (
    best_temperature,
    coverage_at_precision,
    expected_calibration_error,
)


def test_honest_confidences_have_no_error():
    random = np.random.default_rng(0)
    confidence = random.random(200_000)
    right = random.random(200_000) < confidence
    assert expected_calibration_error(confidence, right) < 0.01
    assert expected_calibration_error(confidence**3, right) > 0.1
    assert expected_calibration_error(np.ones(3), np.ones(3, bool)) == 0


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.integers(0, 20).map(lambda n: n / 20), st.booleans()), min_size=1, max_size=40
    ),
    st.sampled_from([0.1, 0.5, 0.75, 0.99, 1.0]),
)
def test_curves_equal_trying_every_threshold(pairs, share):
    confidence, right = np.array([c for c, _ in pairs]), np.array([r for _, r in pairs])
    tried = [confidence >= threshold for threshold in sorted(set(confidence.tolist()))]
    kept = [above.mean() for above in tried if right[above].mean() >= share]
    assert coverage_at_precision(confidence, right, share) == max(kept, default=0)


@pytest.mark.parametrize("true", [0.6, 2.5])
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


def test_readings_may_be_right_at_some_temperatures_only():
    """Where all are right from 1 on the loss is least there, although log p falls."""
    tried = np.geomspace(0.5, 2, 5)
    log_probs = np.tile(-0.5 * tried, (10, 1))
    found, loss = best_temperature(tried, log_probs, np.tile(tried >= 1, (10, 1)))
    assert tried[1] < found < tried[2]  # halfway: the nearer one counts
    assert loss == pytest.approx((tried[1] + tried[2]) / 4, rel=0.01)
