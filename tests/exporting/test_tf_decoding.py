import numpy as np
import pytest
import tensorflow as tf

from crnn_jax.decoding import greedy
from crnn_jax.exporting import saved_model, tf_decoding

FRAMES = np.array([13, 0, 1, 7, 12], np.int32)


def scores(blank_id, k=6):
    """Logits in which classes repeat, with blanks between some of them."""
    random = np.random.default_rng(blank_id)
    logits = random.normal(size=(5, 13, k)).astype(np.float32)
    logits[:, :, blank_id] += 1
    logits[3, 2:4] = logits[3, 1]
    return logits


@pytest.mark.parametrize("blank_id", [0, 3, 5])
def test_greedy_and_its_probability(blank_id):
    logits = scores(blank_id)
    want, lengths = greedy.greedy_decode(logits, FRAMES, blank_id=blank_id)
    got, got_lengths = tf_decoding.greedy_decode(tf.constant(logits), FRAMES, blank_id)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(got_lengths, lengths)
    assert lengths.tolist()[1] == 0
    assert max(lengths.tolist()) > 4
    of_ours = greedy.sequence_log_prob(logits, FRAMES, want, lengths, blank_id=blank_id)
    of_theirs = tf_decoding.sequence_log_prob(
        tf.constant(logits), FRAMES, got, got_lengths, blank_id
    )
    np.testing.assert_allclose(of_theirs, of_ours, atol=1e-5)


def test_a_double_letter_needs_a_blank_between():
    with_blank = np.log(np.array([[[0.2, 0.8], [0.7, 0.3], [0.1, 0.9]]], np.float32))
    ids = np.array([[1, 1, -1]], np.int32)
    got = tf_decoding.sequence_log_prob(
        tf.constant(with_blank), np.array([3], np.int32), ids, np.array([2], np.int32), 0
    )
    assert np.exp(got) == pytest.approx(0.8 * 0.7 * 0.9)


def test_a_text_that_does_not_fit():
    ids, two = np.array([[1, 1]], np.int32), np.array([2], np.int32)
    got = tf_decoding.sequence_log_prob(tf.zeros([1, 2, 3]), two, ids, two, 0)
    assert np.exp(got) == 0


@pytest.mark.parametrize("unknown_id", [-1, 2])
def test_the_unknown_is_not_emitted(unknown_id):
    logits = scores(0)
    got = tf_decoding.emittable(tf.constant(logits), unknown_id)
    np.testing.assert_array_equal(got, greedy.emittable(logits, unknown_id=unknown_id))


def test_texts_of_any_characters():
    symbols = ["", "a", "é", "e\u0301", "日本", "\N{REPLACEMENT CHARACTER}"]
    ids = np.array([[1, 2, 3, -1], [4, 5, 1, 1], [-1, -1, -1, -1]], np.int32)
    got = [text.decode() for text in saved_model.texts(ids, symbols).numpy()]
    assert got == ["aée\u0301", "日本\N{REPLACEMENT CHARACTER}aa", ""]
