import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.scoring.metrics import Sums, alphanumeric, edit_distance, wilson


def table_distance(a, b):
    """The textbook's table, row by row."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


@given(st.text("abc", max_size=12), st.text("abcd", max_size=12))
def test_edit_distance_equals_the_table(a, b):
    assert edit_distance(a, b) == table_distance(a, b)


def test_edit_distance_of_long_texts():
    a = "the quick brown fox jumps over the lazy dog " * 4  # beyond one machine word
    b = a.replace("fox", "cat").replace("the ", "")
    assert edit_distance(a, b) == table_distance(a, b) > 30


def test_alphanumeric_keeps_letters_of_every_script():
    assert alphanumeric("It's-42 %") == "its42"
    assert alphanumeric("Größe 汉") == "größe汉"


def test_each_count_by_itself():
    sums = Sums()
    sums.add("Tired", "Tired")
    sums.add("Tired", "tired")
    sums.add("it's", "its")
    sums.add("abcd", "")
    sums.add("xyz", None)
    assert (sums.count, sums.exact, sums.ignore_case, sums.alphanumeric) == (5, 1, 2, 3)
    assert (sums.edits, sums.characters) == (0 + 1 + 1 + 4 + 3, 5 + 5 + 4 + 4 + 3)
    assert sums.similarity == pytest.approx(1 + 4 / 5 + 3 / 4 + 0 + 0)
    assert (sums.empty, sums.unreadable) == (1, 1)


def test_what_could_not_be_read_is_wrong_even_without_a_label():
    sums = Sums()
    sums.add("", None)
    assert sums.metrics() == {
        "count": 1,
        "accuracy": 0,
        "accuracy_ignore_case": 0,
        "ned": 0,
        "alphanumeric_count": 0,
        "empty": 0,
        "unreadable": 1,
    }


def test_labels_without_letters_and_digits_are_outside_the_alphanumeric_share():
    sums = Sums()
    sums.add("?!", "")  # once right, for both are empty without their punctuation
    sums.add("...", "abc")
    sums.add("%", None)
    assert "accuracy_alphanumeric" not in sums.metrics()
    sums.add("a!", "a")
    sums.add("b", "?")
    metrics = sums.metrics()
    assert (metrics["count"], metrics["alphanumeric_count"]) == (5, 2)
    assert (metrics["accuracy"], metrics["accuracy_alphanumeric"]) == (0, 1 / 2)


def test_similarity_is_by_the_longer_of_the_two():
    sums = Sums()
    sums.add("ab", "abxxxx")
    assert sums.similarity == pytest.approx(1 - 4 / 6)
    assert sums.metrics()["cer"] == 4 / 2


def test_nothing_read_where_nothing_stands_is_right():
    sums = Sums()
    sums.add("", "")
    assert (sums.exact, sums.similarity, sums.empty) == (1, 1, 0)


def test_parts_add_up_to_the_whole():
    pairs = [("ab", "ab"), ("cd", "x"), ("ef", None), ("", "q")]
    whole, parts = Sums(), [Sums(), Sums()]
    for i, (label, text) in enumerate(pairs):
        for sums in (whole, parts[i % 2]):
            sums.add(label, text, loss=i if i else math.nan)
    parts[0].reasons["a"] = whole.reasons["a"] = 2
    assert parts[0] + parts[1] == whole
    assert sum(parts, Sums()).metrics() == whole.metrics()


def test_loss_is_over_those_that_have_one():
    sums = Sums()
    sums.add("a", "a", loss=2.0)
    sums.add("a", "a")
    sums.add("a", None, loss=4.0)
    assert sums.metrics()["loss"] == 3


def test_shares_of_nothing_are_left_out():
    counts = ("count", "alphanumeric_count", "empty", "unreadable")
    assert Sums().metrics() == dict.fromkeys(counts, 0)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (score).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_of_the_literature(right, count, low, high):
    assert wilson(right, count) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson(count - right, count)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_ends_of_intervals_are_exact_and_nothing_tells_nothing():
    assert wilson(0, 7)[0] == 0
    assert wilson(7, 7)[1] == 1
    assert wilson(0, 0) == (0, 1)
