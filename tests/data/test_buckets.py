import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.buckets import bucket_widths, propose_boundaries, propose_max_width


def test_bucket_widths():
    free = Preprocessing(max_width=160)
    assert bucket_widths((), free) == (160,)
    assert bucket_widths((80, 48), free) == (48, 80, 160)
    assert bucket_widths((160, 48, 48), free) == (48, 160)
    assert bucket_widths((1, 2), Preprocessing(width=100)) == (100,)
    for wrong in ((161,), (0,)):
        with pytest.raises(UserError, match=r"data\.boundaries: .*max_width=160"):
            bucket_widths(wrong, free)


def total(widths, boundaries):
    return sum(min(b for b in boundaries if b >= w) for w in widths)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=25), st.integers(1, 4))
def test_proposed_boundaries_are_the_best(widths, count):
    boundaries = propose_boundaries(np.array(widths), count)
    assert len(boundaries) <= count
    assert list(boundaries) == sorted(set(boundaries))
    assert all(b % 4 == 0 for b in boundaries)
    grid = range(4, max(widths) + 4, 4)
    best = min(
        total(widths, chosen)
        for k in range(1, count + 1)
        for chosen in itertools.combinations(grid, min(k, len(grid)))
        if chosen[-1] >= max(widths)
    )
    assert total(widths, boundaries) == best


def test_widths_all_over_the_place_cost_little():
    widths = np.arange(1, 200_000, 9)
    boundaries = propose_boundaries(widths, 5)
    assert len(boundaries) == 5
    assert 199_990 <= boundaries[-1] <= 200_064
    # evenly spread widths want evenly spread boundaries
    np.testing.assert_allclose(np.diff(boundaries), 40_000, rtol=0.01)
    assert propose_boundaries(np.array([8, 160_000]), 5) == (8, 160_000)


def test_no_pictures_no_boundaries():
    assert propose_boundaries(np.array([], int), 5) == ()


def test_a_proposed_max_width_squeezes_few():
    assert propose_max_width(np.array([100])) == 112
    assert propose_max_width(np.full(5000, 96)) == 96
    assert propose_max_width(np.array([100] * 2997 + [500] * 3)) == 512
    assert propose_max_width(np.array([100] * 2998 + [500] * 2)) == 112
    assert propose_max_width(np.array([100] * 2998 + [125] * 2)) == 128
    assert propose_max_width(np.array([100] * 2998 + [126] * 2)) == 112
    assert propose_max_width(np.array([100, 160_000])) == 4096
