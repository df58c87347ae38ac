import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.scoring.metrics import (
    RIGHT,
    Sums,
    edit_distance,
    edits,
    error_kind,
    wilson,
)


def table_distance(a, b):
    """The textbook's table, row by row."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


@given(st.text("abc", max_size=12), st.text("abcd", max_size=12))
def test_edits_are_the_fewest_and_give_both_texts(label, text):
    pairs = edits(label, text)
    assert "".join(a for a, _ in pairs) == label
    assert "".join(b for _, b in pairs) == text
    assert ("", "") not in pairs
    distance = sum(a != b for a, b in pairs)
    assert distance == edit_distance(label, text) == table_distance(label, text)


def test_long_texts():
    a = "the quick brown fox jumps over the lazy dog " * 4  # beyond one machine word
    b = a.replace("fox", "cat").replace("the ", "")
    assert edit_distance(a, b) == table_distance(a, b) > 30
    assert len(edits("a" * 9000, "b" * 9000)) == 1000  # a whole page does not fill memory


@pytest.mark.parametrize(
    ("label", "text", "kind"),
    [
        ("cat", "cat", RIGHT),
        ("", None, "unreadable"),
        ("cat", "", "empty"),
        ("", "", RIGHT),
        ("Cat", "cAT", "case only"),
        ("cat", "ct", "missing characters"),
        ("cat", "xcat", "extra characters"),
        ("cat", "ot", "wrong"),  # one missing and one wrong
        ("cat", "dogs", "wrong"),
    ],
)
def test_kinds_of_errors(label, text, kind):
    assert error_kind(label, text) == kind


@pytest.mark.parametrize(("label", "text"), [("किताब", "कताब"), ("กิน", "กน")])
def test_vowel_signs_count(label, text):
    sums = Sums()
    sums.add(label, text)
    assert sums.share("accuracy_alphanumeric") == (0, 1)


def test_each_count_by_itself():
    sums = Sums()
    for label, text in [("Tired", "Tired"), ("Tired", "tired"), ("it's", "its"), ("abcd", "")]:
        sums.add(label, text, loss=3.0)
    sums.add("xyz", None)
    assert (sums.count, sums.exact, sums.ignore_case, sums.alphanumeric) == (5, 1, 2, 3)
    assert (sums.edits, sums.characters) == (0 + 1 + 1 + 4 + 3, 5 + 5 + 4 + 4 + 3)
    assert sums.similarity == pytest.approx(1 + 4 / 5 + 3 / 4 + 0 + 0)
    assert (sums.empty, sums.unreadable) == (1, 1)
    assert sums.metrics()["loss"] == 3  # over those that have one


@pytest.mark.parametrize(
    ("readings", "metrics"),
    [
        ([("", None)], {"accuracy": 0, "ned": 0, "unreadable": 1}),  # wrong even without a label
        ([("", "")], {"accuracy": 1, "ned": 1, "empty": 0}),
        ([("ab", "abxxxx")], {"ned": 1 - 4 / 6, "cer": 4 / 2}),
        # Without letters and digits a label is outside the alphanumeric share.
        ([("?!", ""), ("a!", "a"), ("b", "?")], {"count": 3, "accuracy_alphanumeric": 1 / 2}),
        ([("a b", "ab"), ("c", "c "), ("d", "")], {"accuracy": 0, "accuracy_ignore_spaces": 2 / 3}),
        ([], {"count": 0, "alphanumeric_count": 0, "empty": 0, "unreadable": 0}),
    ],
)
def test_shares(readings, metrics):
    sums = Sums()
    for label, text in readings:
        sums.add(label, text)
    assert sums.metrics().items() >= metrics.items()
    if not any(" " in label for label, _ in readings):
        assert "accuracy_ignore_spaces" not in sums.metrics()
    if readings in ([], [("", None)]):  # a share of nothing is left out
        assert "cer" not in sums.metrics()
        assert "accuracy_alphanumeric" not in sums.metrics()


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (score).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (0, 0, 0, 1),
    ],
)
def test_intervals_of_the_literature(right, count, low, high):
    assert wilson(right, count) == pytest.approx((low, high), abs=5e-5)
