import math

import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.scoring.comparison import compare
from crnn_jax.scoring.paired import Pairs
from crnn_jax.scoring.result import EvaluationResult
from crnn_jax.scoring.row import Row


def result(*texts, name="one", labels=("Cat", "dog", "a-b", "x")):
    found = EvaluationResult()
    for i, text in enumerate(texts):
        sure = math.nan if text is None else 0.5
        reason = "missing file" if text is None else None
        found.add(Row(i, f"{i}.png", name, labels[i], text, sure, reason))
    return found


def test_who_is_right_where():
    a = result("Cat", "dog", "ab", None)
    b = result("cat", "dog", "xy", "x")
    metrics = compare(a, b).combined
    assert metrics["accuracy"] == Pairs(both=1, only_a=1, only_b=1, none=1)
    assert metrics["accuracy_ignore_case"] == Pairs(both=2, only_a=0, only_b=1, none=1)
    assert metrics["accuracy_alphanumeric"] == Pairs(both=2, only_a=1, only_b=1, none=0)


def test_punctuation_alone_is_not_compared_by_letters_and_digits():
    labels = ("Cat", "?!")
    metrics = compare(result("Cat", "", labels=labels), result("Cat", "x", labels=labels)).combined
    assert metrics["accuracy"] == Pairs(both=1, only_a=0, only_b=0, none=1)
    assert metrics["accuracy_alphanumeric"] == Pairs(both=1, only_a=0, only_b=0, none=0)


def test_the_order_of_samples_and_sets_plays_no_part():
    a = result("Cat", "dog") + result("Cat", "x", name="two")
    b = result("Cat", "x", name="two") + result("Cat", "dog")
    b.rows.reverse()
    sets = compare(a, b).sets
    assert list(sets) == ["one", "two", "combined"]
    assert sets["combined"]["accuracy"] == Pairs(3, 0, 0, 1)


def test_one_set_is_not_repeated():
    assert list(compare(result("Cat"), result("Cat")).sets) == ["one"]


def test_a_file_named_twice_counts_twice():
    a = result("Cat") + result("Cat")
    assert compare(a, result("x") + result("Cat")).combined["accuracy"] == Pairs(1, 1, 0, 0)
    with pytest.raises(UserError, match="not the same samples"):
        compare(a, result("Cat"))


def test_other_samples_are_a_mistake():
    with pytest.raises(UserError, match=r"1 of 2 are in A alone, first 1\.png of one"):
        compare(result("Cat", "dog"), result("Cat"))
    with pytest.raises(UserError, match="in B alone"):
        compare(result("Cat"), result("Cat", "dog"))
    with pytest.raises(UserError, match="its label is 'Cat' in A and 'Cut' in B"):
        compare(result("Cat"), result("Cat", labels=("Cut",)))


def test_labels_of_another_case_are_told():
    comparison = compare(result("Cat"), result("cat", labels=("cat",)))
    assert comparison.other_labels == 1
    assert "1 labels differ" in comparison.table().splitlines()[-1]
    assert compare(result("Cat"), result("Cat")).other_labels == 0


def test_a_table_for_people():
    lines = compare(result("Cat", "dog"), result("Cat", "x")).table().splitlines()
    assert lines[0].split()[:2] == ["set", "compared"]
    assert lines[1].split()[:7] == ["one", "exact", "1", "1", "0", "0", "-50.00"]
    assert len(lines) == 4


def test_json():
    (record,) = compare(result("Cat", "dog"), result("Cat", "x")).to_json()
    assert record["set"] == "one"
    assert record["accuracy"]["only_a"] == 1
    assert record["accuracy"]["mcnemar_p"] == 1
