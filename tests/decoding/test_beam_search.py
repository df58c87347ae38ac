import math
import pathlib
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.charset import BLANK, Charset
from crnn_jax.core.errors import UserError
from crnn_jax.decoding import beam_search as module
from crnn_jax.decoding.beam_search import PRUNE, beam_search
from crnn_jax.decoding.beam_search_jax import beam_search_jax
from crnn_jax.decoding.language_model import NGram
from crnn_jax.decoding.lexicon import Lexicon
from tests.testdata.brute_force import all_texts, log_softmax, peaked, runner_up

ROOT = pathlib.Path(__file__).parents[2]
FULL = 4**6  # more texts than 6 frames of 4 classes can spell

seeds = st.integers(0, 2**31)
sharpness = st.sampled_from([0.0, 1.0, 4.0])  # 0: every path is as probable as any other


class Aid(NamedTuple):
    """A lexicon, a language model, both or neither, over "abc"."""

    charset: Charset
    priors: dict[str, float] | None
    model: NGram | None
    weight: float
    bonus: float

    def options(self) -> dict[str, Any]:
        lexicon = None
        if self.priors is not None:
            lexicon = Lexicon.from_words(
                list(self.priors), self.charset, np.array([*self.priors.values()])
            )
        lm = None if self.model is None else self.model.for_charset(self.charset)
        weights = {"lm_weight": self.weight, "length_bonus": self.bonus}
        return {"blank_id": self.charset.blank_id, "lexicon": lexicon, "lm": lm, **weights}

    def whole(self, text: str) -> float:
        """What is added to log p of a text."""
        added = self.bonus * len(text)
        if self.model is not None:
            added += self.weight * self.model.log_prob(text)
        return added + (0.0 if self.priors is None else self.priors[text])

    def allowed(self, texts: dict) -> dict[str, float]:
        """Text -> log p, of the texts (class ids) that may be found."""
        named = {self.charset.decode(ids): p for ids, p in texts.items()}
        return {t: p for t, p in named.items() if self.priors is None or t in self.priors}


@st.composite
def aids(draw):
    blank_id = draw(st.integers(0, 3))
    symbols = list("abc")
    charset = Charset((*symbols[:blank_id], BLANK, *symbols[blank_id:]), blank_id)
    texts = draw(st.none() | st.lists(st.text("abd", min_size=1, max_size=6), max_size=8))
    model = None if texts is None else NGram.estimate([*texts, "ab"], 3)
    word = st.text("abc", min_size=1, max_size=4)
    priors = draw(
        st.none() | st.dictionaries(word, st.floats(-6, 3, width=16), min_size=1, max_size=9)
    )
    weight = draw(st.sampled_from([0.0, 0.5, 2.0]))
    return Aid(charset, priors, model, weight, draw(st.sampled_from([-2.0, 0.0, 1.5])))


@settings(max_examples=120)
@given(seeds, st.integers(0, 6), sharpness, aids())
def test_at_full_width_every_text_is_found_with_its_probability(seed, t, sharpness, aid):
    log_probs = log_softmax(np.random.default_rng(seed).normal(size=(1, t, 4)) * sharpness)
    want = aid.allowed(all_texts(log_probs[0], aid.charset.blank_id))
    (found,) = beam_search(
        log_probs, np.array([t]), width=FULL, top_paths=FULL, prune=0, **aid.options()
    )
    got = {aid.charset.decode(h.ids): h for h in found}
    assert len(got) == len(found)
    assert {text: h.log_prob for text, h in got.items()} == pytest.approx(want, abs=1e-5)
    scores = {text: h.score for text, h in got.items()}
    assert scores == pytest.approx({t: p + aid.whole(t) for t, p in want.items()}, abs=1e-4)
    assert list(scores.values()) == sorted(scores.values(), reverse=True)


@settings(max_examples=80)
@given(seeds, st.integers(1, 8), st.sampled_from([0, PRUNE, 0.1]), aids())
def test_a_narrow_search_never_claims_more_than_the_truth(seed, width, prune, aid):
    log_probs = peaked(seed, 1, 6, 4, aid.charset.blank_id)
    truth = aid.allowed(all_texts(log_probs[0], aid.charset.blank_id))
    (found,) = beam_search(
        log_probs, np.array([6]), width=width, top_paths=width, prune=prune, **aid.options()
    )
    for h in found:
        text = aid.charset.decode(h.ids)
        assert h.log_prob <= truth[text] + 1e-6
        assert h.score == pytest.approx(h.log_prob + aid.whole(text), abs=1e-4)
    assert bool(truth or aid.priors is None) <= len(found) <= width
    assert len({tuple(h.ids.tolist()) for h in found}) == len(found)


@settings(max_examples=80)
@given(seeds, st.integers(0, 6), aids().filter(lambda aid: aid.priors))
def test_where_the_beam_holds_no_word_the_best_of_the_list_is_found(seed, t, aid):
    logits = np.random.default_rng(seed).normal(size=(1, t, 4)) * 4
    logits[..., aid.charset.blank_id] = 40  # a single text is kept: the empty one
    log_probs = log_softmax(logits)
    truth = aid.allowed(all_texts(log_probs[0], aid.charset.blank_id))
    (found,) = beam_search(log_probs, np.array([t]), width=1, **aid.options())
    assert len(found) == bool(truth)
    for h in found:
        text = aid.charset.decode(h.ids)
        assert h.log_prob == pytest.approx(truth[text], abs=1e-4)
        best = max(p + aid.whole(word) for word, p in truth.items())
        assert h.score == pytest.approx(best, abs=1e-4)


def test_pruned_classes_extend_no_text():
    probabilities = np.array([[[0.6, 0.395, 0.005]] * 2])
    options = {"width": 20, "top_paths": 20, "blank_id": 0}
    for prune, wanted in ((0.0, {1, 2}), (0.01, {1})):
        (found,) = beam_search(np.log(probabilities), np.array([2]), prune=prune, **options)
        assert {k for h in found for k in h.ids.tolist()} == wanted


def test_a_repeat_does_not_hide_the_second_class():
    ((best,),) = beam_search(runner_up(), np.array([3]), width=1, blank_id=0)
    assert best.ids.tolist() == [1, 2]
    assert math.exp(best.log_prob) == pytest.approx(0.4)


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        assert [h.ids.tolist() for h in x] == [h.ids.tolist() for h in y]
        assert [h.log_prob for h in x] == [h.log_prob for h in y]


@settings(max_examples=20)
@given(seeds, st.lists(st.integers(0, 12), min_size=1, max_size=6))
def test_rows_know_nothing_of_each_other_nor_of_padding(seed, lengths):
    random = np.random.default_rng(seed)
    lengths = np.array(lengths)
    log_probs = peaked(seed, len(lengths), 12, 6, 5)
    search = {"width": 5, "blank_id": 5, "top_paths": 3}
    together = beam_search(log_probs, lengths, **search)
    order = random.permutation(len(lengths))
    moved = beam_search(log_probs[order], lengths[order], **search)
    assert_same(moved, [together[i] for i in order])
    other = log_probs.copy()
    for i, n in enumerate(lengths):
        other[i, n:] = random.choice([np.nan, -np.inf, 0.0])
    assert_same(beam_search(other, lengths, **search), together)
    for i, n in enumerate(lengths):
        alone = beam_search(log_probs[i : i + 1, :n], np.array([n]), **search)
        assert_same(alone, together[i : i + 1])


def test_nothing_to_search_and_no_nan_where_nothing_is_possible():
    assert beam_search(np.zeros((0, 5, 3)), np.zeros(0, int), width=4, blank_id=0) == []
    (row,) = beam_search(np.zeros((1, 4, 3)), np.zeros(1, int), width=4, blank_id=0, top_paths=3)
    assert [(h.ids.tolist(), h.log_prob) for h in row] == [([], 0.0)]
    log_probs = log_softmax(np.zeros((3, 4, 3)))
    log_probs[0] = -np.inf
    log_probs[1, 2] = -np.inf  # one frame is enough
    log_probs[2] = np.nan
    for row in beam_search(log_probs, np.full(3, 4), width=20, blank_id=0, top_paths=20, prune=0):
        assert [(h.ids.tolist(), h.log_prob) for h in row] == [([], -math.inf)]


GOOD = {"log_probs": np.zeros((2, 3, 4)), "lengths": np.array([3, 3]), "width": 2, "blank_id": 0}


@pytest.mark.parametrize(
    "changes",
    [
        {"lengths": np.array([3, 3, 3])},
        {"lengths": np.array([3, 4])},
        {"width": 0},
        {"blank_id": 4},
        {"blank_id": 5},
        {"lm": NGram.estimate(["a"]).for_charset(Charset.from_characters("ab"))},
    ],
)
def test_what_compiled_code_cannot_take_is_told(changes):
    with pytest.raises(ValueError, match=r"log_probs\.shape=|3 classes for"):
        beam_search(**{**GOOD, **changes})


def test_without_numba_the_search_in_jax_serves(monkeypatch):
    log_probs, lengths = peaked(5, 6, 9, 5, 4), np.array([9, 3, 0, 9, 1, 5])
    log_probs[3, 4] = -np.inf
    want = beam_search(log_probs, lengths, width=8, blank_id=4, top_paths=3, prune=0)
    monkeypatch.setattr(module, "has_numba", lambda: False)
    got = beam_search(log_probs, lengths, width=8, blank_id=4, top_paths=3)
    for x, y in zip(got, want, strict=True):
        assert [h.ids.tolist() for h in x] == [h.ids.tolist() for h in y]
        assert [h.log_prob for h in x] == pytest.approx([h.log_prob for h in y], abs=1e-5)
    with pytest.raises(UserError, match=r"needs numba: pip install '\.\[beam\]'"):
        beam_search(log_probs, lengths, width=8, blank_id=4, lexicon=object())


B, T, K = 3, 5, 3  # one shape for all examples: one compilation


def device_texts(ids, lengths, log_prob):
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
def test_on_the_device_every_text_is_found_at_full_width(seed, sharpness, lengths, blank_id):
    # 40 is more texts than 5 frames of 3 classes can spell.
    log_probs = log_softmax(np.random.default_rng(seed).normal(size=(B, T, K)) * sharpness)
    found = beam_search_jax(
        log_probs,
        np.array(lengths, np.int32),
        width=40,
        blank_id=blank_id,
        top_paths=40,  # more texts than these frames can spell
    )
    for i, row in enumerate(device_texts(*found)):
        assert row == pytest.approx(all_texts(log_probs[i, : lengths[i]], blank_id), abs=1e-5)


@pytest.mark.parametrize("width", [1, 4])
def test_the_same_as_on_the_host(width):
    lengths = np.array([14, 9, 0, 14, 1, 13])
    log_probs = peaked(width, 6, 14, 8, 7)
    host = beam_search(log_probs, lengths, width=width, blank_id=7, top_paths=width, prune=0)
    device = device_texts(
        *beam_search_jax(
            log_probs, lengths.astype(np.int32), width=width, blank_id=7, top_paths=width
        )
    )
    for h, d in zip(host, device, strict=True):
        assert d == pytest.approx({tuple(x.ids.tolist()): x.log_prob for x in h}, abs=1e-4)


def test_on_the_device_a_repeat_does_not_hide_the_second_class():
    ids, lengths, log_prob = beam_search_jax(
        runner_up(), np.array([3], np.int32), width=1, blank_id=0
    )
    assert ids[0, 0, : lengths[0, 0]].tolist() == [1, 2]
    assert np.exp(log_prob[0, 0]) == pytest.approx(0.4)
