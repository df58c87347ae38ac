"""Texts after `spelled`, by random best paths."""

import unicodedata

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.charset import Charset
from crnn_jax.decoding.beam_search import beam_search
from crnn_jax.decoding.greedy import Spelling, greedy_decode, spelled
from tests.testdata.brute_force import log_softmax

CHARSET = Charset.from_characters(" aoао1-")  # Latin and Cyrillic letters
K, T = CHARSET.num_classes, 9


def logits_of(path):
    """[1 t k] whose best classes are `path`; the second best are what the letters look like."""
    logits = np.eye(K, dtype=np.float32)[np.array(path)] * 8
    for row, c in zip(logits, path, strict=True):
        if 1 <= c < 5:
            row[c + 2 if c < 3 else c - 2] = 4
    return logits[None]


def text_of(logits, length=T):
    ids, lengths = greedy_decode(logits, np.array([length]), blank_id=CHARSET.blank_id)
    return CHARSET.decode(ids[0, : lengths[0]])


def read(text):
    """The text of a best path with one frame a character, after `spelled`, by both decoders."""
    path = [CHARSET.blank_id if c == "_" else CHARSET.symbols.index(c) for c in text]
    length = np.array([len(path)])
    logits = spelled(logits_of(path), length, Spelling.of(CHARSET))
    options = {"width": 10, "blank_id": CHARSET.blank_id}
    ((best,),) = beam_search(log_softmax(np.asarray(logits)), length, **options)
    assert CHARSET.decode(best.ids) == text_of(logits, len(path))
    return text_of(logits, len(path))


def runs(text):
    """The alphabets of each run of letters."""
    words = "".join(c if c.isalpha() else " " for c in text).split()
    return [[unicodedata.name(c).split()[0] for c in word] for word in words]


def test_examples():
    assert read("a_  o _ _ a") == "a o a"
    assert read(" _a1 _") == "a1"
    assert read(" _ ") == ""
    assert read("aо_a") == "aoa"  # the second letter was Cyrillic
    assert read("аo_а") == "аоа"  # and here Latin
    assert read("ао-ao 1а") == "ао-ao 1а"  # words of one alphabet each
    assert read("aо") == "aо"  # two letters: either may be wrong
    assert read("aо a") == "ao a"  # more letters of the text are Latin
    assert read("aо-а") == "ао-а"


def test_beams_find_no_spaces_behind_the_text_either():
    """Each frame there is a space or none: most ways through them write several."""
    space, blank = CHARSET.symbols.index(" "), CHARSET.blank_id
    logits = logits_of([CHARSET.symbols.index("a"), *[space, space, blank, blank] * 2])
    logits[0, 1:, [space, blank]] = np.maximum(logits[0, 1:, [space, blank]], 7.5)
    log_probs = log_softmax(np.asarray(spelled(logits, np.array([T]), Spelling.of(CHARSET))))
    ((best,),) = beam_search(log_probs, np.array([T]), width=10, blank_id=blank)
    assert CHARSET.decode(best.ids) == "a"
    assert best.log_prob > -0.1  # all those ways are the one text


@settings(max_examples=300)
@given(st.lists(st.integers(0, K - 1), min_size=T, max_size=T), st.integers(0, T))
def test_spaces_are_single_and_words_of_one_alphabet(path, length):
    logits, spelling = logits_of(path), Spelling.of(CHARSET)
    found = np.asarray(spelled(logits, np.array([length]), spelling))
    before, after = text_of(logits, length), text_of(found, length)
    assert after == " ".join(after.split())
    letters = [name for run in runs(before) for name in run]
    if 2 * letters.count("LATIN") != len(letters):
        assert all(len(set(run)) == 1 for run in runs(after))
    fine = before == " ".join(before.split()) and all(len(set(r)) == 1 for r in runs(before))
    if fine:
        np.testing.assert_array_equal(found, logits)


def test_a_table_of_one_alphabet_without_a_space_needs_nothing():
    spelling = Spelling.of(Charset.from_characters("abc1"))
    assert (spelling.space_id, spelling.alphabet) == (-1, ())
    logits = logits_of([0, 1, 2])
    assert spelled(logits, np.array([3]), spelling) is logits
