import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.decoding import ngram
from crnn_jax.decoding.beam_search import beam_search
from crnn_jax.decoding.language_model import NEVER, Automaton, checked
from crnn_jax.decoding.lexicon import Lexicon
from crnn_jax.decoding.ngram import BEGIN, END, UNKNOWN, NGram
from tests.testdata.brute_force import all_texts, log_softmax, peaked, plain_search

TABLE = Charset.from_characters("abc")  # the blank is class 3
WIDE = 4**6

texts = st.lists(st.text("abd", min_size=1, max_size=6), min_size=1, max_size=8)


def witten_bell(texts, order, context, c):
    """The formula of the module's head, by counting anew for every term."""
    strings = [BEGIN + t + END for t in texts]
    alphabet = {x for s in strings for x in s[1:]} | {UNKNOWN}

    def p(h):
        after = [
            s[i + len(h)] for s in strings for i in range(len(s) - len(h)) if s[i:].startswith(h)
        ]
        after = [x for x in after if x != BEGIN]
        lower = p(h[1:]) if h else 1 / len(alphabet)
        if not after:
            return lower
        kinds = len(set(after))
        return (after.count(c) + kinds * lower) / (len(after) + kinds)

    return p(context[max(0, len(context) - order + 1) :])


def walk(model: Automaton, ids):
    """log p of a text by the definition of a back-off automaton, in plain Python."""
    state, total = model.start, 0.0
    for c in ids:
        while True:
            arcs = range(model.first[state], model.first[state + 1])
            arc = next((a for a in arcs if model.label[a] == c), None)
            if arc is not None:
                break
            total += model.back_off[state]
            state = model.shorter[state]
        total += model.log_prob[arc]
        state = model.next_state[arc]
    return total + model.end[state]


@settings(max_examples=60, deadline=None)
@given(
    texts, st.integers(1, 4), st.text("abdx", max_size=4), st.sampled_from("abd" + END + UNKNOWN)
)
def test_equals_the_formula(texts, order, context, c):
    model = NGram.estimate(texts, order)
    for h in (context, BEGIN + context):
        h = h[max(0, len(h) - order + 1) :]
        if c in {x for t in texts for x in t} | {END, UNKNOWN}:
            want = witten_bell(texts, order, h, c)
            assert math.exp(model._log_prob(h + c)) == pytest.approx(want, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(texts, st.integers(1, 4), st.text("abd", max_size=3))
def test_probabilities_sum_to_one(texts, order, context):
    model = NGram.estimate(texts, order)
    h = (BEGIN + context)[-order + 1 :] if order > 1 else ""
    characters = {x for t in texts for x in t} | {END, UNKNOWN}
    assert sum(math.exp(model._log_prob(h + c)) for c in characters) == pytest.approx(1)


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(1, 4), st.text("abc", max_size=6))
def test_the_automaton_is_the_same_model(texts, order, text):
    model = NGram.estimate([*texts, "ab"], order)
    automaton = checked(model.for_charset(TABLE), 4)
    ids, _ = TABLE.encode(text)
    assert walk(automaton, ids) == pytest.approx(model.log_prob(text), rel=1e-5)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(0, 6),
    texts,
    st.sampled_from([0.0, 0.5, 2.0]),
    st.sampled_from([-1.0, 0.0, 1.5]),
    st.one_of(st.none(), st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=5)),
)
def test_at_full_width_the_search_equals_brute_force(seed, t, texts, weight, bonus, words):
    log_probs = log_softmax(np.random.default_rng(seed).normal(size=(1, t, 4)) * 2)
    model = NGram.estimate([*texts, "ab"], 3)
    lexicon = Lexicon.from_words(words, TABLE) if words else None
    (found,) = beam_search(
        log_probs,
        np.array([t]),
        width=WIDE,
        blank_id=3,
        top_paths=WIDE,
        prune=0,
        lexicon=lexicon,
        lm=model.for_charset(TABLE),
        lm_weight=weight,
        length_bonus=bonus,
    )
    truth = {TABLE.decode(ids): p for ids, p in all_texts(log_probs[0], 3).items()}
    want = {w: p for w, p in truth.items() if words is None or w in words}
    assert {TABLE.decode(h.ids): h.log_prob for h in found} == pytest.approx(want, abs=1e-5)
    for h in found:
        text = TABLE.decode(h.ids)
        score = truth[text] + weight * model.log_prob(text) + bonus * len(text)
        assert h.score == pytest.approx(score, abs=1e-4)
    scores = [h.score for h in found]
    assert scores == sorted(scores, reverse=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), texts, st.integers(1, 6), st.sampled_from([-2.0, 0.0, 3.0]))
def test_a_narrow_search_never_claims_more_than_the_truth(seed, texts, width, bonus):
    log_probs = peaked(seed, 1, 6, 4, 3)
    model = NGram.estimate([*texts, "ab"], 3)
    (found,) = beam_search(
        log_probs,
        np.array([6]),
        width=width,
        blank_id=3,
        top_paths=width,
        lm=model.for_charset(TABLE),
        length_bonus=bonus,
    )
    truth = all_texts(log_probs[0], 3)
    for h in found:
        assert h.log_prob <= truth[tuple(h.ids.tolist())] + 1e-6
        text = TABLE.decode(h.ids)
        score = h.log_prob + model.log_prob(text) + bonus * len(text)
        assert h.score == pytest.approx(score, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    texts,
    st.integers(1, 8),
    st.sampled_from([-2.0, 0.0, 3.0]),
    st.one_of(st.none(), st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=9)),
)
def test_walking_from_the_best_loses_nothing(seed, texts, width, bonus, words):
    log_probs = peaked(seed, 1, 8, 4, 3)
    model = NGram.estimate([*texts, "ab"], 3)
    priors = np.random.default_rng(seed).normal(size=len(words or ())) * 2
    lexicon = Lexicon.from_words(words, TABLE, priors) if words else None

    def extra(ids):
        text = TABLE.decode(ids)
        gained = sum(
            model._log_prob((BEGIN + text)[max(0, i - 1) : i + 2]) for i in range(len(text))
        )
        fitting = [0.0] if words is None else [-math.inf]
        for word, prior in zip(words or (), priors, strict=True):
            fitting += [prior] if word.startswith(text) else []
        return 0.7 * gained + bonus * len(text) + max(fitting)

    (found,) = beam_search(
        log_probs,
        np.array([8]),
        width=width,
        blank_id=3,
        top_paths=width,
        prune=0,
        lexicon=lexicon,
        lm=model.for_charset(TABLE),
        lm_weight=0.7,
        length_bonus=bonus,
    )
    want = {TABLE.decode(i): p for i, p in plain_search(log_probs[0], width, 3, extra).items()}
    want = {text: p for text, p in want.items() if words is None or text in words}
    assert {TABLE.decode(h.ids): h.log_prob for h in found} == pytest.approx(want, abs=1e-5)


def test_a_model_of_words_prefers_them():
    table = Charset.from_characters("abcdefghijklmnopqrstuvwxyz")
    lm = NGram.estimate(["quiet", "quick", "queen"] * 10, 4).for_charset(table)
    log_probs = np.full((1, 10, 27), 1e-4)
    for frame, c in zip(range(0, 9, 2), "quiet", strict=True):
        log_probs[0, frame, table.encode(c)[0]] = 0.9
        log_probs[0, frame + 1, 26] = 0.9
    log_probs[0, 2, table.encode("o")[0]] = 0.95  # the network has misread the second letter
    log_probs = np.log(log_probs / log_probs.sum(axis=-1, keepdims=True))
    plain, helped = (
        table.decode(
            beam_search(log_probs, np.array([10]), width=10, blank_id=26, lm=model)[0][0].ids
        )
        for model in (None, lm)
    )
    assert (plain, helped) == ("qoiet", "quiet")


def test_what_was_never_seen():
    model = NGram.estimate(["ab", "ba"], 2)
    lm = model.for_charset(TABLE)  # the model has not seen "c"
    assert walk(lm, [2]) == pytest.approx(model.log_prob("c"), rel=1e-6)
    other = Charset.from_characters("xyz")
    with pytest.raises(UserError, match="seen none of the model's characters"):
        model.for_charset(other)
    with pytest.raises(UserError, match="without characters"):
        NGram.estimate(["", ""])
    with pytest.raises(ValueError, match="order=0"):
        NGram.estimate(["a"], 0)


@pytest.mark.parametrize(("limit", "value"), [("MAX_TEXTS", 2), ("MAX_CHARACTERS", 7)])
def test_more_than_memory_holds_is_refused(monkeypatch, limit, value):
    monkeypatch.setattr(ngram, limit, value)
    NGram.estimate(["abc", "abcd", "abc"], 2)  # 2 different texts, 7 characters in them
    with pytest.raises(UserError, match=r"^over .* different texts or .* characters in them"):
        NGram.estimate(["abc", "abcd", "abcde"], 2)


def test_impossible_stays_finite():
    lm = NGram(2, {"a": (-math.inf, 0.0), END: (-1.0, 0.0), "b": (-1.0, -math.inf)}).for_charset(
        TABLE
    )
    checked(lm, 4)
    assert lm.log_prob.min() == NEVER


def test_arrays_that_contradict_each_other_are_refused():
    good = NGram.estimate(["abcab"], 3).for_charset(TABLE)
    checked(good, 4)
    bad = [
        good._replace(start=len(good.end)),
        good._replace(next_state=good.next_state + 100),
        good._replace(shorter=np.arange(len(good.end))),
        good._replace(label=good.label[:-1]),
        good._replace(first=good.first[::-1]),
        good._replace(back_off=good.back_off[:-1]),
        good._replace(end=good.end * np.nan),
    ]
    for model, classes in itertools.chain(((m, 4) for m in bad), [(good, 5)]):
        with pytest.raises(ValueError, match="a language model"):
            checked(model, classes)
