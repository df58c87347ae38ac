import io
import json
import math

import pytest

from crnn_jax.scoring.result import EvaluationResult, Row


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
    lines = make_result().table().splitlines()
    assert lines[0].split()[:3] == ["set", "count", "exact"]
    assert lines[1].split()[:3] == ["one", "2", "50.00"]
    assert lines[3].split()[:4] == ["combined", "3", "33.33", "(6.1-79.2)"]
    assert len({len(line) for line in lines[:4]}) == 1
    assert lines[4] == "two: 1 of 1: missing file (in the counts above)"


def test_labels_outside_the_alphanumeric_share_are_told():
    result = make_result()
    result.add(Row(2, "d.png", "one", "?!", "", 0.5))
    assert result.table().splitlines()[4] == (
        "one: 1 of 3: no letter or digit in the label (not in alphanumeric)"
    )
    records = list(result.to_json())
    assert [r["alphanumeric_count"] for r in records] == [2, 1, 3]
    assert [r["accuracy_alphanumeric"] for r in records] == [1 / 2, 0, 1 / 3]
    low, high = records[0]["accuracy_alphanumeric_interval"]
    assert low + high == pytest.approx(1)  # of 1 of 2


def test_table_of_nothing():
    assert EvaluationResult().table().splitlines()[1].split()[:3] == ["combined", "0", "-"]


def test_rows_as_tsv_keep_their_cells_apart():
    stream = io.StringIO()
    make_result().write_rows(stream, as_json=False)
    head, *rows = [line.split("\t") for line in stream.getvalue().splitlines()]
    assert head == ["id", "path", "set", "label", "text", "confidence", "reason", "right"]
    assert rows[0] == ["0", "a.png", "one", "cat", "cat", "0.9", "", "True"]
    assert rows[2] == ["0", "c.png", "two", "a\\tb", "", "", "missing file", "False"]


def test_rows_as_json_lines():
    stream = io.StringIO()
    make_result().write_rows(stream, as_json=True)
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert rows[2]["text"] is None
    assert rows[2]["confidence"] is None
    assert rows[1] == {
        "id": 1,
        "path": "b.png",
        "set": "one",
        "label": "dog",
        "text": "dot",
        "confidence": 0.25,
        "reason": None,
        "right": False,
    }
