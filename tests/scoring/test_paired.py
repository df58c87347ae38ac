import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.scoring.paired import Pairs, mcnemar, newcombe, p_text

COUNTS = st.tuples(*[st.integers(0, 60)] * 4)


@pytest.mark.parametrize(
    ("pairs", "interval"),
    [
        # Newcombe 1998, table III, method 10.
        (Pairs(36, 2, 12, 0), (0.0569, 0.3404)),
        # Airway hyper-responsiveness, in M. W. Fagerland et al., Statistics in Medicine 33, 2014;
        # the correction of the correlation counts here.
        (Pairs(1, 1, 7, 12), (0.0256, 0.5069)),
    ],
)
def test_intervals_of_the_literature(pairs, interval):
    assert newcombe(pairs) == pytest.approx(interval, abs=5e-5)


@given(COUNTS)
def test_the_interval_holds_the_difference_and_turns_with_the_models(counts):
    both, only_a, only_b, none = counts
    pairs = Pairs(both, only_a, only_b, none)
    low, high = newcombe(pairs)
    assert -1 <= low <= pairs.difference <= high <= 1
    turned = newcombe(Pairs(both, only_b, only_a, none))
    assert turned == pytest.approx((-high, -low))


def test_the_interval_covers_what_it_should():
    random = np.random.default_rng(0)
    shares = [0.7, 0.05, 0.1, 0.15]
    draws = random.multinomial(120, shares, size=2000)
    intervals = [newcombe(Pairs(*draw)) for draw in draws.tolist()]
    covered = np.mean([low <= 0.05 <= high for low, high in intervals])
    assert 0.935 < covered < 0.975


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_binomial_test(only_a, only_b):
    count = only_a + only_b
    chances = [math.comb(count, k) * 0.5**count for k in range(count + 1)]
    as_uneven = sum(c for c in chances if c <= chances[only_a] * (1 + 1e-9))
    assert mcnemar(only_a, only_b) == pytest.approx(as_uneven)


def test_mcnemar_by_hand_and_of_many():
    assert mcnemar(0, 0) == 1
    assert mcnemar(0, 1) == 1
    assert mcnemar(1, 9) == 22 / 1024
    assert mcnemar(0, 6) == 2 / 64
    # The normal distribution's, with the correction for whole numbers; 2 ** 20000 is no float.
    z = (10_300 - 9_700 - 1) / math.sqrt(20_000)
    assert mcnemar(10_300, 9_700) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-2)
    assert p_text(mcnemar(20_000, 0)) == "< 0.0001"
    assert p_text(0.04567) == "0.0457"


def test_no_samples():
    assert newcombe(Pairs(0, 0, 0, 0)) == (-1, 1)
    assert Pairs(0, 0, 0, 0).to_json()["mcnemar_p"] == 1


def test_json_of_pairs():
    record = Pairs(both=70, only_a=4, only_b=9, none=17).to_json()
    assert (record["count"], record["difference"]) == (100, 0.05)
    low, high = record["difference_interval"]
    assert low < 0.05 < high
