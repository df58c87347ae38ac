import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.decoding.beam_search import beam_search
from crnn_jax.decoding.beam_search_jax import beam_search_jax
from tests.testdata.brute_force import all_texts, log_softmax, peaked, runner_up

B, T, K = 3, 5, 3  # one shape for all examples: one compilation
FULL = 40  # more texts than 5 frames of 3 classes can spell


def texts(ids, lengths, log_prob):
    """text -> log p for every row."""
    ids, lengths, log_prob = (np.asarray(x) for x in (ids, lengths, log_prob))
    rows = []
    for i in range(len(ids)):
        found = np.flatnonzero(np.isfinite(log_prob[i]))
        row = {tuple(ids[i, j, : lengths[i, j]].tolist()): float(log_prob[i, j]) for j in found}
        assert len(row) == len(found)
        assert (np.diff(log_prob[i, found]) <= 0).all()
        for j in range(ids.shape[1]):
            assert (ids[i, j, lengths[i, j] :] == -1).all()
        rows.append(row)
    return rows


@settings(max_examples=30)
@given(
    st.integers(0, 2**31),
    st.sampled_from([0.0, 1.0, 4.0]),
    st.lists(st.integers(0, T), min_size=B, max_size=B),
    st.sampled_from([0, K - 1]),
)
def test_at_full_width_every_text_is_found_with_its_probability(seed, sharpness, lengths, blank_id):
    log_probs = log_softmax(np.random.default_rng(seed).normal(size=(B, T, K)) * sharpness)
    found = beam_search_jax(
        log_probs, np.array(lengths, np.int32), width=FULL, blank_id=blank_id, top_paths=FULL
    )
    for i, row in enumerate(texts(*found)):
        assert row == pytest.approx(all_texts(log_probs[i, : lengths[i]], blank_id), abs=1e-5)


@pytest.mark.parametrize("width", [1, 4])
def test_the_same_as_on_the_host(width):
    lengths = np.array([14, 9, 0, 14, 1, 13])
    log_probs = peaked(width, 6, 14, 8, 7)
    host = beam_search(log_probs, lengths, width=width, blank_id=7, top_paths=width, prune=0)
    device = texts(
        *beam_search_jax(
            log_probs, lengths.astype(np.int32), width=width, blank_id=7, top_paths=width
        )
    )
    for h, d in zip(host, device, strict=True):
        assert d == pytest.approx({tuple(x.ids.tolist()): x.log_prob for x in h}, abs=1e-4)


def test_a_repeat_does_not_hide_the_second_class():
    ids, lengths, log_prob = beam_search_jax(
        runner_up(), np.array([3], np.int32), width=1, blank_id=0
    )
    assert ids[0, 0, : lengths[0, 0]].tolist() == [1, 2]
    assert np.exp(log_prob[0, 0]) == pytest.approx(0.4)
