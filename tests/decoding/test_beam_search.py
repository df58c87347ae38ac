import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crnn_jax.core.errors import UserError
from crnn_jax.decoding import compiled
from crnn_jax.decoding.beam_search import PRUNE, beam_search
from crnn_jax.decoding.confidence import sequence_log_prob
from crnn_jax.decoding.greedy import emittable
from tests.testdata.brute_force import all_texts, log_softmax, peaked, plain_search, runner_up

FULL = 4**6  # more texts than 6 frames of 4 classes can spell


def random_log_probs(seed, b, t, k, sharpness):
    return log_softmax(np.random.default_rng(seed).normal(size=(b, t, k)) * sharpness)


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        assert [h.ids.tolist() for h in x] == [h.ids.tolist() for h in y]
        assert [h.log_prob for h in x] == [h.log_prob for h in y]


seeds = st.integers(0, 2**31)
shapes = st.tuples(st.integers(0, 6), st.integers(2, 4))
sharpness = st.sampled_from([0.0, 1.0, 4.0])  # 0: every path is as probable as any other


@settings(max_examples=150, deadline=None)
@given(seeds, shapes, sharpness, st.data())
def test_at_full_width_every_text_is_found_with_its_probability(seed, shape, sharpness, data):
    t, k = shape
    blank_id = data.draw(st.integers(0, k - 1))
    log_probs = random_log_probs(seed, 1, t, k, sharpness)
    want = all_texts(log_probs[0], blank_id)
    (found,) = beam_search(
        log_probs, np.array([t]), width=FULL, blank_id=blank_id, top_paths=FULL, prune=0
    )
    got = {tuple(h.ids.tolist()): h.log_prob for h in found}
    assert len(got) == len(found)
    assert got == pytest.approx(want, abs=1e-5)
    scores = [h.score for h in found]
    assert scores == sorted(scores, reverse=True)
    assert scores == pytest.approx([h.log_prob for h in found], abs=1e-6)


@settings(max_examples=150, deadline=None)
@given(seeds, shapes, sharpness, st.integers(1, 8), st.sampled_from([0, PRUNE, 0.1]))
def test_a_narrow_search_never_claims_more_than_the_truth(seed, shape, sharpness, width, prune):
    t, k = shape
    log_probs = random_log_probs(seed, 1, t, k, sharpness)
    truth = all_texts(log_probs[0], 0)
    (found,) = beam_search(
        log_probs, np.array([t]), width=width, blank_id=0, top_paths=width, prune=prune
    )
    for h in found:
        assert h.log_prob <= truth[tuple(h.ids.tolist())] + 1e-6
    assert 1 <= len(found) <= width
    assert len({tuple(h.ids.tolist()) for h in found}) == len(found)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 20), st.integers(2, 12), st.integers(1, 24))
@example(seed=0, t=30, k=40, width=20)
def test_walking_from_the_best_loses_nothing(seed, t, k, width):
    log_probs = peaked(seed, 1, t, k, k - 1)
    want = plain_search(log_probs[0], width, k - 1)
    (found,) = beam_search(
        log_probs, np.array([t]), width=width, blank_id=k - 1, top_paths=width, prune=0
    )
    got = {tuple(h.ids.tolist()): h.log_prob for h in found}
    assert got == pytest.approx(want, abs=1e-9, rel=1e-9)


def test_it_finds_the_more_probable_text_more_often_than_the_search_of_the_papers():
    k, width = 8, 3
    better = worse = 0
    for log_probs in random_log_probs(0, 150, 14, k, 1.5):
        (found,) = beam_search(log_probs[None], np.array([14]), width=width, blank_id=0, prune=0)
        papers = plain_search(log_probs, width, 0, as_in_papers=True)
        ids = found[0].ids.tolist(), list(max(papers, key=papers.__getitem__))
        if ids[0] == ids[1]:
            continue
        padded = np.array([text + [0] * (14 - len(text)) for text in ids], np.int32)
        counts = np.array([len(text) for text in ids], np.int32)
        pair = np.stack([log_probs, log_probs])
        ours, theirs = sequence_log_prob(pair, np.array([14, 14]), padded, counts, blank_id=0)
        better, worse = better + (ours > theirs), worse + (ours < theirs)
    assert better > 20
    assert better > 2 * worse


def test_a_repeat_does_not_hide_the_second_class():
    ((best,),) = beam_search(runner_up(), np.array([3]), width=1, blank_id=0)
    assert best.ids.tolist() == [1, 2]
    assert math.exp(best.log_prob) == pytest.approx(0.4)


@settings(max_examples=30, deadline=None)
@given(seeds, st.lists(st.integers(0, 12), min_size=1, max_size=6))
def test_rows_know_nothing_of_each_other_nor_of_padding(seed, lengths):
    random = np.random.default_rng(seed)
    b, t, k = len(lengths), 12, 6
    log_probs = peaked(seed, b, t, k, 5)
    together = beam_search(log_probs, np.array(lengths), width=5, blank_id=5, top_paths=3)
    order = random.permutation(b)
    moved = beam_search(
        log_probs[order], np.array(lengths)[order], width=5, blank_id=5, top_paths=3
    )
    assert_same(moved, [together[i] for i in order])
    other = log_probs.copy()
    for i, n in enumerate(lengths):
        other[i, n:] = random.choice([np.nan, -np.inf, 0.0])
    assert_same(beam_search(other, np.array(lengths), width=5, blank_id=5, top_paths=3), together)
    for i, n in enumerate(lengths):
        alone = beam_search(
            log_probs[i : i + 1, :n], np.array([n]), width=5, blank_id=5, top_paths=3
        )
        assert_same(alone, together[i : i + 1])


def test_many_rows_on_many_threads(monkeypatch):
    log_probs, lengths = peaked(3, 101, 20, 9, 8), np.arange(101) % 21
    want = beam_search(log_probs, lengths, width=7, blank_id=8)
    for cores in (1, 3, 200):
        monkeypatch.setattr(compiled, "_cores", lambda cores=cores: cores)
        assert_same(beam_search(log_probs, lengths, width=7, blank_id=8), want)


def test_the_score_of_a_text_is_what_confidence_says():
    log_probs, lengths = peaked(1, 8, 24, 37, 36), np.full(8, 24)
    found = beam_search(log_probs, lengths, width=200, blank_id=36)
    n = max(len(row[0].ids) for row in found)
    ids = np.stack([np.pad(row[0].ids, (0, n - len(row[0].ids))) for row in found])
    exact = sequence_log_prob(
        log_probs,
        lengths.astype(np.int32),
        ids,
        np.array([len(row[0].ids) for row in found], np.int32),
        blank_id=36,
    )
    np.testing.assert_allclose([row[0].log_prob for row in found], exact, atol=0.3)
    assert all(row[0].log_prob <= p + 1e-4 for row, p in zip(found, exact, strict=True))


def test_one_text_of_several_paths_beats_the_best_path():
    # Frames of (blank, a, b): the best path is blank-blank, but "a" has three paths.
    log_probs = np.log(np.array([[[0.4, 0.35, 0.25], [0.4, 0.35, 0.25]]]))
    ((best, second),) = beam_search(log_probs, np.array([2]), width=9, blank_id=0, top_paths=2)
    assert best.ids.tolist() == [1]
    assert math.exp(best.log_prob) == pytest.approx(0.35 * 0.4 * 2 + 0.35**2, rel=1e-6)
    assert second.ids.tolist() == [2]


def test_nothing_to_search():
    assert beam_search(np.zeros((0, 5, 3)), np.zeros(0, int), width=4, blank_id=0) == []
    for shape in ((2, 0, 3), (2, 4, 3)):
        rows = beam_search(np.zeros(shape), np.zeros(2, int), width=4, blank_id=0, top_paths=3)
        assert [[(h.ids.tolist(), h.log_prob) for h in row] for row in rows] == [[([], 0.0)]] * 2


def test_no_nan_where_nothing_is_possible():
    log_probs = log_softmax(np.zeros((3, 4, 3)))
    log_probs[0] = -np.inf
    log_probs[1, 2] = -np.inf  # one frame is enough
    log_probs[2, 2, 1:] = -np.inf  # only the blank
    first, second, third = beam_search(
        log_probs, np.full(3, 4), width=20, blank_id=0, top_paths=20, prune=0
    )
    for row in (first, second):
        assert [(h.ids.tolist(), h.log_prob) for h in row] == [([], -math.inf)]
    want = all_texts(log_probs[2], 0)
    assert {tuple(h.ids.tolist()): h.log_prob for h in third} == pytest.approx(
        {text: want[text] for text in (tuple(h.ids.tolist()) for h in third)}
    )
    assert len(third) == min(20, len(want))
    nan = beam_search(np.full((1, 4, 3), np.nan), np.array([4]), width=3, blank_id=0)
    assert nan[0][0].log_prob == -math.inf


def test_a_certain_text_is_not_above_one():
    log_probs = np.full((1, 50, 3), -np.inf)
    log_probs[..., 1] = 1e-7  # rounding of a softmax
    ((best,),) = beam_search(log_probs, np.array([50]), width=3, blank_id=0)
    assert best.log_prob == 0


def test_pruning_forbids_new_characters_only():
    rare = math.log(1e-3)
    log_probs = np.full((1, 3, 3), rare)
    log_probs[0, 0, 1] = log_probs[0, 1, 0] = log_probs[0, 2, 0] = math.log(0.998)
    ((best, *others),) = beam_search(
        log_probs, np.array([3]), width=9, blank_id=0, top_paths=9, prune=0.01
    )
    # Class 2 is never written; the rare paths of class 1 still count.
    assert [best.ids.tolist()] + [h.ids.tolist() for h in others] == [[1], []]
    truth = all_texts(log_probs[0], 0)
    assert best.log_prob == pytest.approx(truth[1,], abs=1e-6)
    assert others[0].log_prob == pytest.approx(truth[()], abs=1e-6)


def test_a_forbidden_class_is_never_written():
    logits = np.zeros((1, 2, 3), np.float32)
    masked = log_softmax(np.asarray(emittable(logits, unknown_id=1)))
    (found,) = beam_search(masked, np.array([2]), width=50, blank_id=0, top_paths=50, prune=0)
    assert sorted(h.ids.tolist() for h in found) == [[], [2]]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"log_probs": np.zeros((2, 3))}, r"want log_probs \[b t k\]"),
        ({"lengths": np.array([3, 3, 3])}, "lengths"),
        ({"lengths": np.array([3, 4])}, "within 0 and 3"),
        ({"lengths": np.array([3, -1])}, "within 0 and 3"),
        ({"width": 0}, "at least 1"),
        ({"width": 2.5}, "whole numbers"),
        ({"top_paths": 0}, "at least 1"),
        ({"top_paths": 1.5}, "whole numbers"),
        ({"blank_id": 4}, "blank_id=4 of 4 classes"),
        ({"prune": 2}, "a probability"),
        ({"lm_weight": -1.0}, "lm_weight"),
        ({"length_bonus": math.nan}, "length_bonus"),
    ],
)
def test_what_makes_no_sense_is_told(changes, told):
    good = {
        "log_probs": np.zeros((2, 3, 4)),
        "lengths": np.array([3, 3]),
        "width": 2,
        "blank_id": 0,
    }
    with pytest.raises(ValueError, match=told):
        beam_search(**{**good, **changes})


def test_without_numba_the_search_in_jax_serves(monkeypatch):
    log_probs, lengths = peaked(5, 6, 9, 5, 4), np.array([9, 3, 0, 9, 1, 5])
    log_probs[3, 4] = -np.inf
    want = beam_search(log_probs, lengths, width=8, blank_id=4, top_paths=3, prune=0)
    monkeypatch.setattr(compiled, "available", lambda: False)
    got = beam_search(log_probs, lengths, width=8, blank_id=4, top_paths=3)
    for x, y in zip(got, want, strict=True):
        assert [h.ids.tolist() for h in x] == [h.ids.tolist() for h in y]
        assert [h.log_prob for h in x] == pytest.approx([h.log_prob for h in y], abs=1e-5)
    with pytest.raises(UserError, match=r"needs numba: pip install crnn_jax\[beam\]"):
        beam_search(log_probs, lengths, width=8, blank_id=4, lexicon=object())
