import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.decoding import compiled
from crnn_jax.decoding.lexicon import Lexicon
from crnn_jax.decoding.spelling import PREFIX, Neighbours, rerank
from tests.testdata.brute_force import all_texts, log_softmax

TABLE = Charset.from_characters("abc")  # the blank is class 3


@functools.cache
def distance(a, b):
    """Levenshtein's, by its definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(
        distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0])
    )


def words_of(lexicon, words):
    return {TABLE.decode(lexicon.ids[lexicon.offsets[w] : lexicon.offsets[w + 1]]) for w in words}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text("abc", min_size=1, max_size=12), min_size=1, max_size=12),
    st.text("abc", max_size=12),
    st.integers(0, 3),
    st.data(),
)
def test_no_word_within_the_distance_is_missed(words, text, d, data):
    # Beside random words some made of the text by a few edits, which random ones rarely are.
    for _ in range(3):
        edited = text
        for _ in range(data.draw(st.integers(0, 3))):
            at = data.draw(st.integers(0, len(edited)))
            edited = edited[:at] + data.draw(st.text("abc", max_size=1)) + edited[at + 1 :]
        words = [*words, edited or "a"]
    lexicon = Lexicon.from_words(words, TABLE)
    near = Neighbours.of(lexicon, d).near(TABLE.encode(text)[0])
    assert words_of(lexicon, near) >= {w for w in words if distance(text, w) <= d}


def test_the_list_is_not_scanned():
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abc"), 9)) for _ in range(3000)]
    lexicon = Lexicon.from_words(words, TABLE)
    near = Neighbours.of(lexicon, 1).near(TABLE.encode(words[0])[0])
    assert 0 < len(near) < 300


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(0, 6),
    st.lists(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=10),
    st.text("abc", max_size=6),
    st.integers(0, 3),
    st.booleans(),
)
def test_equals_trying_every_word(seed, t, words, text, d, with_priors):
    random = np.random.default_rng(seed)
    words = sorted(set(words))
    log_probs = log_softmax(random.normal(size=(1, t, 4)) * 2)
    priors = random.normal(size=len(words)) if with_priors else np.zeros(len(words))
    lexicon = Lexicon.from_words(words, TABLE, priors)
    (found,) = rerank(
        log_probs,
        np.array([t]),
        TABLE.encode(text)[0][None],
        np.array([len(text)]),
        Neighbours.of(lexicon, d),
        blank_id=3,
        top_paths=20,
    )
    truth = {TABLE.decode(ids): p for ids, p in all_texts(log_probs[0], 3).items()}
    want = {w: truth[w] for w in words if w in truth and distance(text, w) <= d}
    assert {TABLE.decode(h.ids): h.log_prob for h in found} == pytest.approx(want, abs=1e-5)
    prior_of = dict(zip(words, priors, strict=True))
    for h in found:
        assert h.score == pytest.approx(h.log_prob + prior_of[TABLE.decode(h.ids)], abs=1e-5)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


def test_rows_and_padding():
    log_probs = log_softmax(np.random.default_rng(0).normal(size=(4, 6, 4)))
    neighbours = Neighbours.of(Lexicon.from_words(["ab", "ba", "cab"], TABLE), 2)
    ids = np.array([[0, 1, 7], [2, -1, 7], [1, 0, 2], [0, 0, 0]])
    lengths, frames = np.array([2, 1, 3, 0]), np.array([6, 4, 5, 0])

    def call(rows, **kwargs):
        found = rerank(
            log_probs[rows],
            frames[rows],
            ids[rows],
            lengths[rows],
            neighbours,
            blank_id=3,
            **kwargs,
        )
        return [[(TABLE.decode(h.ids), h.log_prob) for h in row] for row in found]

    together = call([0, 1, 2, 3], top_paths=3)
    assert [len(row) for row in together] == [3, 3, 3, 0]
    assert call([2, 0], top_paths=3) == [together[2], together[0]]
    assert call([0, 1, 2, 3]) == [row[:1] for row in together]
    assert call([]) == []
    log_probs[1, 4:] = np.nan
    assert call([1], top_paths=3) == [together[1]]


def test_no_nan_where_nothing_is_possible():
    neighbours = Neighbours.of(Lexicon.from_words(["ab"], TABLE), 1)
    log_probs = np.full((1, 5, 4), -np.inf)
    found = rerank(log_probs, np.array([5]), np.array([[0]]), np.array([1]), neighbours, blank_id=3)
    assert found == [[]]


def test_words_longer_than_what_is_filed():
    words = ["abcabcabcabc" + end for end in ("", "a", "aa", "aaa")]
    assert len(words[0]) > PREFIX
    lexicon = Lexicon.from_words(words, TABLE)
    near = Neighbours.of(lexicon, 2).near(TABLE.encode("bcabcabcabca")[0])
    assert words_of(lexicon, near) >= {w for w in words if distance("bcabcabcabca", w) <= 2}


def test_what_makes_no_sense_is_told(monkeypatch):
    lexicon = Lexicon.from_words(["ab"], TABLE)
    for d in (-1, 4):
        with pytest.raises(ValueError, match="distance"):
            Neighbours.of(lexicon, d)
    monkeypatch.setattr(compiled, "available", lambda: False)
    with pytest.raises(UserError, match="needs numba"):
        rerank(None, None, None, None, Neighbours.of(lexicon), blank_id=3)
