import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.decoding.greedy import sequence_log_prob
from tests.testdata.brute_force import all_texts, log_softmax

B, T, K, N = 3, 5, 3, 4  # one shape for all examples: one compilation


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([0, K - 1]),
    st.lists(st.integers(0, T), min_size=B, max_size=B),
    st.lists(st.lists(st.integers(0, K - 2), max_size=N), min_size=B, max_size=B),
)
def test_equals_the_sum_over_all_alignments(seed, blank_id, lengths, texts):
    logits = np.random.default_rng(seed).normal(size=(B, T, K)).astype(np.float32) * 3
    texts = [[k + (blank_id == 0) for k in text] for text in texts]  # ids beside the blank's
    ids = np.full((B, N), -1, np.int32)
    for i, text in enumerate(texts):
        ids[i, : len(text)] = text
    id_lengths = np.array([len(text) for text in texts], np.int32)
    got = sequence_log_prob(logits, np.array(lengths, np.int32), ids, id_lengths, blank_id=blank_id)
    for i, text in enumerate(texts):
        want = all_texts(log_softmax(logits[i, : lengths[i]]), blank_id)
        p = np.exp(want.get(tuple(text), -np.inf))
        assert np.exp(got[i]) == pytest.approx(p, rel=1e-4, abs=1e-12)


def test_empty_text_is_the_product_of_the_blanks():
    logits = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    lengths = np.array([6, 2], np.int32)
    for n in (0, 3):  # also with no room for characters at all
        got = sequence_log_prob(
            logits, lengths, np.full((2, n), -1, np.int32), np.zeros(2, np.int32), blank_id=3
        )
        blanks = log_softmax(logits)[..., 3]
        np.testing.assert_allclose(got, [blanks[0].sum(), blanks[1, :2].sum()], rtol=1e-5)
