import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.core.errors import UserError
from crnn_jax.scoring.compare import compare
from crnn_jax.scoring.evaluation import EvaluationResult, Row
from crnn_jax.scoring.output import (
    prediction_lines,
    read_predictions,
    write_outputs,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
HEAD = "id\tpath\tset\tlabel\ttext\tconfidence\treason\tright\n"


@pytest.fixture
def result():
    found = EvaluationResult()
    found.add(Row(0, "a.png", "one", "cat", "cat", 0.9))
    found.add(Row(1, "b.png", "one", "dogs", "dot", 0.25))
    found.add(Row(2, "c.png", "one", "dogs", "dogs", 0.5))
    found.add(Row(3, "e.png", "one", "?!", None, math.nan, "missing file"))
    found.add(Row(0, "d\udcff.png", "t|wo_", "a\tb", "A\tb", 0.5))
    found.note_aspects("one", np.array([[10, 25], [0, -1], [10, 70]]))
    return found


def test_a_folder_gets_everything(tmp_path, result):
    folder = tmp_path / "new" / "results"
    write_outputs(str(folder), result, {"model": "\udcff"}, compare(result, result), result)
    names = {path.name for path in folder.iterdir()}
    assert names == {"result.json", "result.md", "predictions.tsv", "predictions_b.tsv"}
    whole = json.loads((folder / "result.json").read_text())
    one, _, combined = whole["sets"]
    assert one["by_length"]["4"]["count"] == 2
    assert one["by_length"]["4"]["accuracy_interval"][0] < 0.5
    assert list(combined["by_aspect"]) == ["2-3", "6-8", "unknown"]
    assert combined["accuracy"] == 2 / 5
    assert whole["comparison"][-1]["accuracy"]["both"] == 2
    rows = (folder / "predictions.tsv").read_text().splitlines(keepends=True)
    assert rows[:2] == [HEAD, "0\ta.png\tone\tcat\tcat\t0.9\t\tTrue\n"]
    assert rows[5] == "0\td\\udcff.png\tt|wo_\ta\\tb\tA\\tb\t0.5\t\tFalse\n"


def test_a_path_that_is_not_utf8_is_read_too(tmp_path, result):
    write_outputs(str(tmp_path), result, {})
    assert [row.path for row in read_predictions(str(tmp_path)).rows][4] == "d\\udcff.png"


@given(st.lists(st.tuples(TEXT, TEXT, st.none() | TEXT)))
def test_predictions_that_were_written_are_read(tmp_path_factory, found):
    result = EvaluationResult()
    for i, (path, label, text) in enumerate(found):
        known = (0.25, None) if text is not None else (math.nan, "missing file")
        result.add(Row(i, path, "a set", label, text, *known))
    file = tmp_path_factory.mktemp("p") / "p.tsv"
    with open(file, "w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(prediction_lines(result))
    read = read_predictions(str(file))
    rows = [row.to_json() for row in result.rows]
    assert [row.to_json() for row in read.rows] == rows
    assert list(map(json.loads, prediction_lines(result, as_json=True))) == rows
    assert read.sets == result.sets


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("p.tsv", b"path label\n", "p.tsv:1"),
        ("p.tsv", HEAD.encode() + b"x\tp\ts\ta\ta\t0.5\t\tTrue\n", "p.tsv:2"),
        ("p.tsv", HEAD.encode() + b"1\tp\ts\ta\\z\ta\t0.5\t\tTrue\n", "p.tsv:2"),
        ("p.tsv", HEAD.encode() + b"1\tp\ts\ta\n", "p.tsv:2"),
        ("p.tsv", b"\xff\xfe", "p.tsv:1: not UTF-8"),
        ("p.tsv", None, "p.tsv: cannot be read"),
    ],
)
def test_another_file_is_told_with_its_line(tmp_path, name, content, where):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=where):
        read_predictions(str(tmp_path / name))
