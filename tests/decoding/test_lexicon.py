import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.decoding.beam_search import beam_search
from crnn_jax.decoding.lexicon import Lexicon

TABLE = Charset.from_characters("abc")  # the blank is class 3
words = st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=8)


def words_of(lexicon, charset=TABLE, node=0, text=""):
    """Every word the trie holds -> its log prior."""
    trie = lexicon.trie
    found = {text: float(trie.word[node])} if trie.word[node] > -np.inf else {}
    for child in range(trie.first[node], trie.first[node + 1]):
        letter = charset.symbols[trie.label[child]]
        found.update(words_of(lexicon, charset, child, text + letter))
    assert trie.best[node] == max(found.values())
    return found


@settings(max_examples=100, deadline=None)
@given(words, st.integers(0, 1000))
def test_the_trie_holds_the_words_and_no_others(words, seed):
    priors = np.random.default_rng(seed).normal(size=len(words)).astype(np.float32)
    want = {}
    for word, prior in zip(words, priors.tolist(), strict=True):
        want[word] = max(prior, want.get(word, -math.inf))
    lexicon = Lexicon.from_words(words, TABLE, priors)
    assert words_of(lexicon) == want
    assert len(lexicon) == len(want)
    assert set(words_of(Lexicon.from_words(words, TABLE)).values()) == {0.0}


def test_words_are_normalized_and_those_outside_the_table_counted():
    table = Charset.from_characters("abcé", ignore_case=True)
    lexicon = Lexicon.from_words(["Cab", "cab", "e\u0301A", "abd", "", "b"], table)
    assert sorted(words_of(lexicon, table)) == ["b", "cab", "éa"]
    assert lexicon.left_out == 2


def test_the_prior_of_a_word_is_seen_from_its_first_character():
    # All but certain of "a", yet "ba" is a million times as usual; a narrow beam must keep "b".
    log_probs = np.log(np.array([[[0.9, 0.09, 0.005, 0.005], [0.9, 0.05, 0.04, 0.01]]]))
    lexicon = Lexicon.from_words(["aa", "ba", "a"], TABLE, np.log([1e-6, 1.0, 1e-6]))
    ((best,),) = beam_search(log_probs, np.array([2]), width=1, blank_id=3, lexicon=lexicon)
    assert TABLE.decode(best.ids) == "ba"


@pytest.mark.parametrize("words", [["xyz", ""], []])
def test_a_list_without_a_word_is_told(words):
    with pytest.raises(UserError, match=f"none of {len(words)} words is of the table's characters"):
        Lexicon.from_words(words, TABLE)
