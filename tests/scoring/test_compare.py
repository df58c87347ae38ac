import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.core.errors import UserError
from crnn_jax.scoring.compare import Pairs, compare, mcnemar, newcombe
from crnn_jax.scoring.evaluation import EvaluationResult, Row


def result(*texts, name="one", labels=("Cat", "dog", "a-b", "x")):
    found = EvaluationResult()
    for i, text in enumerate(texts):
        sure = math.nan if text is None else 0.5
        reason = "missing file" if text is None else None
        found.add(Row(i, f"{i}.png", name, labels[i], text, sure, reason))
    return found


def test_who_is_right_where():
    metrics = compare(result("Cat", "dog", "ab", None), result("cat", "dog", "xy", "x")).sets["one"]
    assert metrics["accuracy"] == Pairs(both=1, only_a=1, only_b=1, none=1)
    assert metrics["accuracy_ignore_case"] == Pairs(both=2, only_a=0, only_b=1, none=1)
    assert metrics["accuracy_alphanumeric"] == Pairs(both=2, only_a=1, only_b=1, none=0)
    # Punctuation alone is not compared by letters and digits.
    labels = ("Cat", "?!")
    pair = compare(result("Cat", "", labels=labels), result("Cat", "x", labels=labels))
    assert pair.sets["one"]["accuracy"] == Pairs(both=1, only_a=0, only_b=0, none=1)
    assert pair.sets["one"]["accuracy_alphanumeric"] == Pairs(both=1, only_a=0, only_b=0, none=0)


def test_the_order_of_samples_and_sets_plays_no_part():
    a = result("Cat", "dog") + result("Cat", "x", name="two")
    b = result("Cat", "x", name="two") + result("Cat", "dog")
    b.rows.reverse()
    sets = compare(a, b).sets
    assert list(sets) == ["one", "two", "combined"]
    assert sets["combined"]["accuracy"] == Pairs(3, 0, 0, 1)


def test_a_set_may_be_named_by_another_path():
    a, b = (
        EvaluationResult(rows=[Row(0, f"{folder}/0.png", f"{folder}/a.txt", "Cat", "Cat", 0.5)])
        for folder in ("./data", "data")
    )
    assert compare(a, b).sets["./data/a.txt"]["accuracy"] == Pairs(1, 0, 0, 0)
    b.rows[0] = b.rows[0]._replace(path="data/1.png")
    with pytest.raises(UserError, match=r"first \./data/0\.png of \./data/a\.txt"):
        compare(a, b)


def test_a_folder_may_be_named_with_a_slash_at_its_end():
    a, b = (
        EvaluationResult(rows=[Row(0, "data/words/0.png", name, "Cat", "Cat", 0.5)])
        for name in ("data/words/", "data/words")
    )
    assert compare(a, b).sets["data/words/"]["accuracy"] == Pairs(1, 0, 0, 0)


def test_labels_may_differ_in_case():
    turkish = result("istanbul", labels=("\u0130stanbul",)), result("x", labels=("istanbul",))
    assert compare(*turkish).other_labels == 1


def test_a_file_named_twice_counts_twice():
    a = result("Cat") + result("Cat")
    assert compare(a, result("x") + result("Cat")).sets["one"]["accuracy"] == Pairs(1, 1, 0, 0)
    with pytest.raises(UserError, match="not the same samples"):
        compare(a, result("Cat"))


@pytest.mark.parametrize(
    ("a", "b", "names"),
    [
        (result("Cat", "dog"), result("Cat"), r"1 of 2 are in A alone, first 1\.png of one"),
        (result("Cat"), result("Cat", "dog"), "in B alone"),
        (result("Cat"), result("Cat", labels=("Cut",)), "'Cat' in A and 'Cut' in B"),
    ],
)
def test_other_samples_are_a_mistake(a, b, names):
    with pytest.raises(UserError, match=names):
        compare(a, b)


@pytest.mark.parametrize(
    ("pairs", "interval"),
    [
        # Newcombe 1998, table III, method 10.
        (Pairs(36, 2, 12, 0), (0.0569, 0.3404)),
        # Airway hyper-responsiveness, in M. W. Fagerland et al., Statistics in Medicine 33, 2014;
        # the correction of the correlation counts here.
        (Pairs(1, 1, 7, 12), (0.0256, 0.5069)),
        (Pairs(0, 0, 0, 0), (-1, 1)),
    ],
)
def test_intervals_of_the_literature(pairs, interval):
    assert newcombe(pairs) == pytest.approx(interval, abs=5e-5)


@given(*[st.integers(0, 60)] * 4)
def test_the_interval_holds_the_difference_and_turns_with_the_models(both, only_a, only_b, none):
    pairs = Pairs(both, only_a, only_b, none)
    low, high = newcombe(pairs)
    assert -1 <= low <= pairs.difference <= high <= 1
    assert newcombe(Pairs(both, only_b, only_a, none)) == pytest.approx((-high, -low))


@pytest.mark.parametrize(("pair", "p"), [((0, 0), 1), ((0, 1), 1), ((1, 9), 22 / 1024)])
def test_mcnemar_by_hand(pair, p):
    assert mcnemar(*pair) == pytest.approx(p)
