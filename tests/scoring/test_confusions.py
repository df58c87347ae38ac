import collections
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.scoring.confusions import (
    ERROR_KINDS,
    RIGHT,
    confusions,
    edits,
    error_kind,
    most_confused,
)
from crnn_jax.scoring.metrics import edit_distance
from crnn_jax.scoring.result import Row

TEXT = st.text("abc", max_size=9)


@given(TEXT, TEXT)
def test_edits_are_the_fewest_and_give_both_texts(label, text):
    pairs = edits(label, text)
    assert "".join(a for a, _ in pairs) == label
    assert "".join(b for _, b in pairs) == text
    assert sum(a != b for a, b in pairs) == edit_distance(label, text)
    assert ("", "") not in pairs


def test_edits_of_a_word():
    assert edits("cat", "at") == [("c", ""), ("a", "a"), ("t", "t")]
    assert edits("l0g", "log!") == [("l", "l"), ("0", "o"), ("g", "g"), ("", "!")]


def test_a_whole_page_does_not_fill_memory():
    assert len(edits("a" * 9000, "b" * 9000)) == 1000


def test_confusions_are_counted_over_samples():
    texts = [("cat", "cot"), ("cat", "cotx"), ("dog", "dog"), ("dog", ""), ("dog", None)]
    rows = [Row(i, "p", "s", label, text, 0.5) for i, (label, text) in enumerate(texts)]
    assert confusions(rows) == {("a", "o"): 2, ("", "x"): 1}


def test_the_most_confused_characters_meet_each_other():
    counts = collections.Counter(
        {("a", "o"): 9, ("a", ""): 99, ("0", "O"): 5, ("i", "l"): 3, ("o", "0"): 1}
    )
    assert most_confused(counts, 4) == ["0", "O", "a", "o"]
    assert most_confused(counts, 5) == ["0", "O", "a", "o"]  # i without l would say nothing
    assert most_confused(counts, 6) == ["0", "O", "a", "i", "l", "o"]
    assert most_confused(collections.Counter(), 4) == []


@pytest.mark.parametrize(
    ("label", "text", "kind"),
    [
        ("cat", "cat", RIGHT),
        ("cat", None, "unreadable"),
        ("", None, "unreadable"),
        ("cat", "", "empty"),
        ("", "", RIGHT),
        ("Cat", "cAT", "case only"),
        ("cat", "ct", "missing characters"),
        ("cat", "xcat", "extra characters"),
        ("", "x", "extra characters"),
        ("cat", "cot", "wrong"),
        ("cat", "ot", "wrong"),  # one missing and one wrong
        ("cat", "dogs", "wrong"),
    ],
)
def test_kinds_of_errors(label, text, kind):
    assert error_kind(Row(0, "p", "s", label, text, 0.5)) == kind


@given(st.text(string.ascii_letters, max_size=5), st.none() | st.text("abC", max_size=5))
def test_every_error_has_a_kind(label, text):
    kind = error_kind(Row(0, "p", "s", label, text, 0.5))
    assert (kind == RIGHT) == (label == text)
    assert kind in (RIGHT, *ERROR_KINDS)
