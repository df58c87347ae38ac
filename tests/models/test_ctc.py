"""The CTC loss against all alignments, and what it makes of impossible labels."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.models.ctc import ctc_loss, is_feasible

T, K, N = 5, 4, 3


def _collapse(path, blank):
    return tuple(c for c, _ in itertools.groupby(path) if c != blank)


def _brute_force(logits, length, label, blank):
    """-log of the sum over every alignment; float64."""
    log_probs = np.asarray(jax.nn.log_softmax(logits.astype(np.float64)))
    total = 0.0
    for path in itertools.product(range(K), repeat=length):
        if _collapse(path, blank) == tuple(label):
            total += np.exp(sum(log_probs[t, c] for t, c in enumerate(path)))
    return -np.log(total) if total else np.inf


_loss = jax.jit(ctc_loss, static_argnames="blank_id")


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(0, K - 1),
    st.integers(1, T),
    st.lists(st.integers(0, K - 2), max_size=N),
)
def test_loss_equals_the_sum_over_all_alignments(seed, blank, length, label):
    label = [c + (c >= blank) for c in label]  # any class but the blank
    logits = np.random.default_rng(seed).normal(0, 2, (1, T, K)).astype(np.float32)
    padded = np.full((1, N), blank, np.int32)
    padded[0, : len(label)] = label
    arguments = logits, np.array([length]), padded, np.array([len(label)])
    wanted = _brute_force(logits[0], length, label, blank)
    feasible = bool(is_feasible(*arguments[1:])[0])
    assert feasible == np.isfinite(wanted)
    got = float(_loss(*arguments, blank_id=blank)[0])
    assert got == pytest.approx(wanted if feasible else 0.0, abs=1e-4)


def test_a_label_needs_a_frame_a_character_and_one_between_equal_ones():
    labels = np.array(list(itertools.product(range(1, K), repeat=N)), np.int32)
    for count, length in itertools.product(range(N + 1), range(T + 1)):
        needed = [count + sum(a == b for a, b in itertools.pairwise(x[:count])) for x in labels]
        got = is_feasible(
            np.full(len(labels), length), labels, np.full(len(labels), count, np.int32)
        )
        np.testing.assert_array_equal(got, np.array(needed) <= length)


def test_impossible_label_has_no_gradient_and_others_keep_theirs():
    logits = np.random.default_rng(0).normal(size=(2, T, K)).astype(np.float32)
    labels = np.array([[1, 1, 1], [1, 2, 0]], np.int32)  # 1 1 1 needs 5 frames, it has 4
    lengths, label_lengths = np.array([4, 4]), np.array([3, 2])

    def total(x):
        return ctc_loss(x, lengths, labels, label_lengths, blank_id=0).sum()

    gradient = np.asarray(jax.grad(total)(logits))
    assert np.all(gradient[0] == 0)
    assert np.abs(gradient[1, :4]).max() > 0
    assert np.all(gradient[1, 4:] == 0)


@pytest.mark.slow
def test_values_and_gradients_are_tensorflows():
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (4, 12, 9)).astype(np.float32)
    lengths, label_lengths = np.array([12, 10, 9, 12], np.int32), np.array([5, 4, 1, 0], np.int32)
    labels = rng.integers(1, 9, (4, 5)).astype(np.int32)
    inside = np.where(np.arange(5)[None, :] < label_lengths[:, None], labels, 0)
    options = {"logits_time_major": False, "blank_index": 0}
    with tf.GradientTape() as tape:
        variable = tf.Variable(logits)
        wanted = tf.nn.ctc_loss(inside, variable, label_lengths, lengths, **options)
        total = tf.reduce_sum(wanted)

    def loss(x):
        return ctc_loss(x, lengths, labels, label_lengths, blank_id=0)

    np.testing.assert_allclose(loss(logits), wanted.numpy(), rtol=1e-5)
    gradient = jax.grad(lambda x: loss(x).sum())(logits)
    np.testing.assert_allclose(gradient, tape.gradient(total, variable).numpy(), atol=2e-5)
