import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.core.errors import UserError
from crnn_jax.scoring.compare import Pairs, compare, mcnemar, newcombe
from crnn_jax.scoring.output import comparison_table
from crnn_jax.scoring.result import EvaluationResult, Row


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
    assert "1 labels differ" in comparison_table(comparison).splitlines()[-1]
    assert compare(result("Cat"), result("Cat")).other_labels == 0


def test_a_table_for_people():
    lines = comparison_table(compare(result("Cat", "dog"), result("Cat", "x"))).splitlines()
    assert lines[0].split()[:2] == ["set", "compared"]
    assert lines[1].split()[:7] == ["one", "exact", "1", "1", "0", "0", "-50.00"]
    assert lines[1].split()[-1] == "1.0000"
    assert len(lines) == 4
    labels = ["a"] * 20
    far = compare(result(*labels, labels=labels), result(*"b" * 20, labels=labels))
    assert "< 0.0001" in comparison_table(far)


def test_json():
    (record,) = compare(result("Cat", "dog"), result("Cat", "x")).to_json()
    assert record["set"] == "one"
    assert record["accuracy"]["only_a"] == 1
    assert record["accuracy"]["mcnemar_p"] == 1


COUNTS = st.tuples(*[st.integers(0, 60)] * 4)


@pytest.mark.parametrize(
    ("pairs", "interval"),
    [
        # Newcombe 1998, table III, method 10.
        (Pairs(36, 2, 12, 0), (0.0569, 0.3404)),
        # Airway hyper-responsiveness, in M. W. Fagerland et al., Statistics in Medicine 33, 2014;
        # the correction of the correlation counts here.
        (Pairs(1, 1, 7, 12), (0.0256, 0.5069)),
    ],
)
def test_intervals_of_the_literature(pairs, interval):
    assert newcombe(pairs) == pytest.approx(interval, abs=5e-5)


@given(COUNTS)
def test_the_interval_holds_the_difference_and_turns_with_the_models(counts):
    both, only_a, only_b, none = counts
    pairs = Pairs(both, only_a, only_b, none)
    low, high = newcombe(pairs)
    assert -1 <= low <= pairs.difference <= high <= 1
    turned = newcombe(Pairs(both, only_b, only_a, none))
    assert turned == pytest.approx((-high, -low))


def test_the_interval_covers_what_it_should():
    random = np.random.default_rng(0)
    shares = [0.7, 0.05, 0.1, 0.15]
    draws = random.multinomial(120, shares, size=2000)
    intervals = [newcombe(Pairs(*draw)) for draw in draws.tolist()]
    covered = np.mean([low <= 0.05 <= high for low, high in intervals])
    assert 0.935 < covered < 0.975


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_binomial_test(only_a, only_b):
    count = only_a + only_b
    chances = [math.comb(count, k) * 0.5**count for k in range(count + 1)]
    as_uneven = sum(c for c in chances if c <= chances[only_a] * (1 + 1e-9))
    assert mcnemar(only_a, only_b) == pytest.approx(as_uneven)


def test_mcnemar_by_hand_and_of_many():
    assert mcnemar(0, 0) == 1
    assert mcnemar(0, 1) == 1
    assert mcnemar(1, 9) == 22 / 1024
    assert mcnemar(0, 6) == 2 / 64
    # The normal distribution's, with the correction for whole numbers; 2 ** 20000 is no float.
    z = (10_300 - 9_700 - 1) / math.sqrt(20_000)
    assert mcnemar(10_300, 9_700) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-2)
    assert mcnemar(20_000, 0) < 1e-300


def test_no_samples():
    assert newcombe(Pairs(0, 0, 0, 0)) == (-1, 1)
    assert Pairs(0, 0, 0, 0).to_json()["mcnemar_p"] == 1


def test_json_of_pairs():
    record = Pairs(both=70, only_a=4, only_b=9, none=17).to_json()
    assert (record["count"], record["difference"]) == (100, 0.05)
    low, high = record["difference_interval"]
    assert low < 0.05 < high
