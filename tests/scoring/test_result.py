import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.scoring.metrics import Sums
from crnn_jax.scoring.output import table
from crnn_jax.scoring.result import EvaluationResult, Row, by_aspect, by_length


def make_result():
    result = EvaluationResult()
    result.add(Row(0, "a.png", "one", "cat", "cat", 0.9), loss=0.5)
    result.add(Row(1, "b.png", "one", "dog", "dot", 0.25))
    result.add(Row(0, "c.png", "two", "a\tb", None, math.nan, "missing file"))
    return result


def test_results_of_parts_add_up():
    result = make_result()
    both = EvaluationResult()
    for row in result.rows:
        part = EvaluationResult()
        part.add(row, loss=0.5 if row.path == "a.png" else math.nan)
        both = both + part
    assert both == result
    assert result.metrics()["count"] == 3
    assert result.metrics()["accuracy"] == 1 / 3
    assert result.metrics()["loss"] == 0.5


def test_json_has_every_set_and_all_together():
    records = list(make_result().to_json())
    assert [(r["set"], r["count"]) for r in records] == [("one", 2), ("two", 1), ("combined", 3)]
    assert records[0]["accuracy"] == 0.5
    assert records[2]["reasons"] == {"missing file": 1}
    low, high = records[2]["accuracy_interval"]
    assert 0 < low < 1 / 3 < high < 1
    json.dumps(records, allow_nan=False)


def test_reasons_of_the_plan_do_not_count_unreadable_pictures_twice():
    result = make_result()
    result.note_reasons("two", {"missing file": 1, "unknown character": 1})
    result.note_reasons("one", {"too long for its width": 2})
    reasons = {r["set"]: r["reasons"] for r in result.to_json()}
    assert reasons["two"] == {"missing file": 1, "unknown character": 1}
    assert reasons["combined"] == reasons["one"] | reasons["two"]


def test_one_set_is_not_repeated():
    result = EvaluationResult()
    result.add(Row(0, "a.png", "one", "cat", "cat", 0.9))
    assert [r["set"] for r in result.to_json()] == ["one"]


def test_table_for_people():
    lines = table(make_result()).splitlines()
    assert lines[0].split()[:3] == ["set", "count", "exact"]
    assert lines[1].split()[:3] == ["one", "2", "50.00"]
    assert lines[3].split()[:4] == ["combined", "3", "33.33", "(6.1-79.2)"]
    assert len({len(line) for line in lines[:4]}) == 1
    assert lines[4] == "two: 1 of 1: missing file (in the counts above)"


def test_labels_outside_the_alphanumeric_share_are_told():
    result = make_result()
    result.add(Row(2, "d.png", "one", "?!", "", 0.5))
    assert table(result).splitlines()[4] == (
        "one: 1 of 3: no letter or digit in the label (not in alphanumeric)"
    )
    records = list(result.to_json())
    assert [r["alphanumeric_count"] for r in records] == [2, 1, 3]
    assert [r["accuracy_alphanumeric"] for r in records] == [1 / 2, 0, 1 / 3]
    low, high = records[0]["accuracy_alphanumeric_interval"]
    assert low + high == pytest.approx(1)  # of 1 of 2


def test_table_of_nothing():
    assert table(EvaluationResult()).splitlines()[1].split()[:3] == ["combined", "0", "-"]


ROWS = st.lists(
    st.tuples(
        st.text("abAB1", max_size=120),
        st.none() | st.text("abAB1", max_size=12),
        st.none() | st.floats(0.01, 100),
    )
)


def as_rows(found):
    rows = [
        Row(i, "p", "s", label, text, 0.5 if text is not None else math.nan)
        for i, (label, text, _) in enumerate(found)
    ]
    aspects = {("s", i): aspect for i, (_, _, aspect) in enumerate(found) if aspect is not None}
    return rows, aspects


@given(ROWS)
def test_every_sample_is_in_one_group(found):
    rows, aspects = as_rows(found)
    whole = Sums()
    for row in rows:
        whole.add(row.label, row.text)
    for groups in (by_length(rows), by_aspect(rows, aspects)):
        parts = sum(groups.values(), Sums())
        assert parts.similarity == pytest.approx(whole.similarity)
        parts.similarity = whole.similarity
        assert parts == whole


@pytest.mark.parametrize(
    ("length", "name"),
    [(0, "0"), (1, "1"), (10, "10"), (11, "11-15"), (15, "11-15"), (16, "16-20"), (100, "51-100")]
    + [(101, "over 100")],
)
def test_groups_of_length(length, name):
    assert list(by_length(as_rows([("a" * length, "", None)])[0])) == [name]


@pytest.mark.parametrize(
    ("aspect", "name"),
    [(0.99, "under 1"), (1, "1-2"), (1.99, "1-2"), (2, "2-3"), (19.9, "12-20")]
    + [(20, "20 or more"), (None, "unknown")],
)
def test_groups_of_aspect(aspect, name):
    assert list(by_aspect(*as_rows([("a", "", aspect)]))) == [name]


def test_groups_come_in_order():
    rows, _ = as_rows([("a" * n, "", 30 / n) for n in (30, 2, 12, 200, 9)])
    assert list(by_length(rows)) == ["2", "9", "11-15", "21-30", "over 100"]
    assert list(by_aspect(rows, {("s", 0): 5.0, ("s", 1): 0.5})) == ["under 1", "4-6", "unknown"]
