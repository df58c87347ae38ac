"""Logits as no network should give them: every decoder's answer stays a text with a probability."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crnn_jax.decoding.alignment import align
from crnn_jax.decoding.beam_search import beam_search
from crnn_jax.decoding.beam_search_jax import beam_search_jax
from crnn_jax.decoding.greedy import greedy_decode, sequence_log_prob
from tests.testdata.brute_force import log_softmax

B, T, K = 2, 4, 4  # one shape for all examples: few compilations
ALL_LOW = np.full((B, T, K), -1e30, np.float32)

extremes = st.sampled_from([-1e30, -1e9, -300.0, -1.0, 0.0, 0.0, 5.0, 300.0, 1e9, 1e30])
logits = st.lists(extremes, min_size=B * T * K, max_size=B * T * K).map(
    lambda values: np.array(values, np.float32).reshape(B, T, K)
)
frames = st.lists(st.integers(0, T), min_size=B, max_size=B).map(lambda n: np.array(n, np.int32))
# Blank and beam width are part of a compiled program.
searches = st.sampled_from([(0, 1), (1, 3), (K - 1, 3)])


def assert_texts(texts, numbers, count, blank_id):
    """Possible texts, best first, of probabilities."""
    for text in texts:
        assert len(text) <= count
        assert ((text >= 0) & (text < K) & (text != blank_id)).all()
    assert not np.isnan(numbers).any()
    assert (numbers[1:] <= numbers[:-1]).all()
    assert max(numbers, default=0) <= 1e-4


@settings(max_examples=30)
@given(logits, frames, searches)
@example(ALL_LOW, np.full(B, T, np.int32), (0, 1))
@example(ALL_LOW, np.zeros(B, np.int32), (K - 1, 3))
def test_greedy_its_confidence_and_its_places(logits, lengths, search):
    blank_id, _ = search
    ids, id_lengths = map(np.asarray, greedy_decode(logits, lengths, blank_id=blank_id))
    texts = [row[:n] for row, n in zip(ids, id_lengths, strict=True)]
    log_prob = sequence_log_prob(logits, lengths, ids, id_lengths, blank_id=blank_id)
    for text, n, number in zip(texts, lengths, np.asarray(log_prob), strict=True):
        assert_texts([text], np.array([number]), n, blank_id)
        # The best path alone is one of at most K paths a frame.
        assert number >= -T * np.log(K) - 1e-4
    places = align(log_softmax(logits), lengths, ids, id_lengths, blank_id=blank_id)
    for first, last, sure, n, count in zip(*places, id_lengths, lengths, strict=True):
        assert (first[:n] >= 0).all()
        assert (first[:n] <= last[:n]).all()
        assert (last[:n] < count).all()
        assert ((sure >= 0) & (sure <= 1 + 1e-6)).all()


@settings(max_examples=30)
@given(logits, frames, searches)
@example(ALL_LOW, np.full(B, T, np.int32), (1, 3))
def test_beam_search_on_the_host_and_on_the_device(logits, lengths, search):
    blank_id, width = search
    log_probs = log_softmax(logits)
    found = beam_search(log_probs, lengths, width=width, blank_id=blank_id, top_paths=width)
    ids, id_lengths, numbers = map(
        np.asarray,
        beam_search_jax(log_probs, lengths, width=width, blank_id=blank_id, top_paths=width),
    )
    for row, count in enumerate(lengths):
        texts = [hypothesis.ids for hypothesis in found[row]]
        assert_texts(texts, np.array([h.log_prob for h in found[row]]), count, blank_id)
        assert len({text.tobytes() for text in texts}) == len(texts) > 0
        kept = np.isfinite(numbers[row])
        texts = [text[:n] for text, n in zip(ids[row][kept], id_lengths[row][kept], strict=True)]
        assert_texts(texts, numbers[row][kept], count, blank_id)
