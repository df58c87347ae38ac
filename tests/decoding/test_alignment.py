import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.geometry import num_frames
from crnn_jax.decoding.alignment import align, pixel_spans
from tests.testdata.brute_force import collapse, log_softmax


def best_path(log_probs, text, blank_id):
    """The most probable path that reads `text`, by trying them all; None where there is none."""
    t, k = log_probs.shape
    best, best_score = None, -np.inf
    for path in itertools.product(range(k), repeat=t):
        if collapse(path, blank_id) != tuple(text):
            continue
        score = sum(log_probs[i, c] for i, c in enumerate(path))
        if score > best_score:
            best, best_score = path, score
    return best


def spans_of(path, blank_id):
    start, spans = 0, []
    for symbol, run in itertools.groupby(path):
        n = len(list(run))
        if symbol != blank_id:
            spans.append((start, start + n - 1))
        start += n
    return spans


@settings(max_examples=40)
@given(
    st.integers(0, 10_000),
    st.lists(
        st.tuples(st.integers(0, 5), st.lists(st.integers(1, 2), max_size=4)),
        min_size=1,
        max_size=3,
    ),
)
def test_equals_the_best_of_all_paths(seed, rows):
    b, t, k = len(rows), 5, 3
    log_probs = log_softmax(np.random.default_rng(seed).normal(size=(b, t, k)) * 2)
    ids = np.full((b, 4), -1)
    for i, (_, text) in enumerate(rows):
        ids[i, : len(text)] = text
    lengths = np.array([length for length, _ in rows])
    id_lengths = np.array([len(text) for _, text in rows])
    got = align(log_probs, lengths, ids, id_lengths, blank_id=0)
    for i, (length, text) in enumerate(rows):
        n = len(text)
        path = best_path(log_probs[i, :length], text, 0)
        if path is None:
            assert (got.first[i] == -1).all()
            assert (got.confidence[i] == 0).all()
            continue
        want = spans_of(path, 0)
        assert list(zip(got.first[i, :n], got.last[i, :n], strict=True)) == want
        for j, (first, last) in enumerate(want):
            peak = np.exp(log_probs[i, first : last + 1, text[j]].max())
            assert got.confidence[i, j] == pytest.approx(peak, rel=1e-5)
        assert (got.first[i, n:] == -1).all()


def test_spans_share_their_borders_and_stay_in_the_picture():
    spans = pixel_spans(np.array([1, 4]), np.array([1, 5]), geometry="keras", resized=40, width=80)
    # Frames 1, 4 and 5 have their centres at 8, 20 and 24 of 40 pixels, at 16, 40 and 48 of 80.
    assert spans.tolist() == [[4, 28], [28, 60]]


@pytest.mark.parametrize("geometry", ["keras", "torch"])
def test_a_frame_lies_where_the_network_looks(geometry):
    # A network without a preferred side: halfway between its outer frames lies the middle.
    last = num_frames(100, geometry) - 1
    frames = np.array([0, last])
    spans = pixel_spans(frames, frames, geometry=geometry, resized=100, width=100)
    assert spans[0, 1] == 50
    near = np.array([10, 11])
    spans = pixel_spans(near, near, geometry=geometry, resized=100, width=100)
    assert spans[1, 1] - spans[1, 0] == 4  # two poolings of 2
