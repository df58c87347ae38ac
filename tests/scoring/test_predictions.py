import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.core.errors import UserError
from crnn_jax.scoring.predictions import (
    open_predictions,
    predictions_file,
    read_predictions,
    write_predictions,
)
from crnn_jax.scoring.result import EvaluationResult, Row

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@given(st.lists(st.tuples(TEXT, TEXT, st.none() | TEXT)), st.booleans())
def test_what_was_written_is_read(tmp_path_factory, found, as_json):
    result = EvaluationResult()
    for i, (path, label, text) in enumerate(found):
        known = (0.25, None) if text is not None else (math.nan, "missing file")
        result.add(Row(i, path, "a set", label, text, *known))
    file = tmp_path_factory.mktemp("p") / ("p.jsonl" if as_json else "p.tsv")
    with open(file, "w", encoding="utf-8", newline="\n") as stream:
        write_predictions(result, stream, as_json=as_json)
    read = read_predictions(str(file))
    assert [row.to_json() for row in read.rows] == [row.to_json() for row in result.rows]
    assert read.sets == result.sets


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("p.tsv", "path label\n", "p.tsv:1: no predictions"),
        ("p.tsv", "", "p.tsv:1: no predictions"),
        ("p.tsv", "HEAD\n1\t2\n", "p.tsv:2: no prediction: 2 cells, want 8"),
        ("p.tsv", "HEAD\nx\tp\ts\ta\ta\t0.5\t\tTrue\n", "p.tsv:2"),
        ("p.tsv", "HEAD\n1\tp\ts\ta\\z\ta\t0.5\t\tTrue\n", "p.tsv:2"),
        ("p.jsonl", "[1]\n", "p.jsonl:1: no prediction: want an object"),
        ("p.jsonl", '{"id": 1}\n', "p.jsonl:1"),
        ("p.jsonl", "nonsense\n", "p.jsonl:1"),
        ("p.tsv", b"\xff\xfe", "not UTF-8"),
        ("p.tsv", None, "cannot be read"),
    ],
)
def test_another_file_is_told_with_its_line(tmp_path, name, content, told):
    head = "\t".join(("id", "path", "set", "label", "text", "confidence", "reason", "right"))
    if isinstance(content, str):
        (tmp_path / name).write_text(content.replace("HEAD", head))
    elif content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=told):
        read_predictions(str(tmp_path / name))


def test_predictions_or_a_model(tmp_path):
    assert predictions_file("x/p.tsv") == "x/p.tsv"
    assert predictions_file("model.safetensors") is None
    assert predictions_file(str(tmp_path)) is None  # a workdir
    (tmp_path / "predictions.tsv").write_text("")
    assert predictions_file(str(tmp_path)) == str(tmp_path / "predictions.tsv")
    with pytest.raises(UserError, match="no predictions"):
        open_predictions(str(tmp_path))


def three():
    result = EvaluationResult()
    result.add(Row(0, "a.png", "one", "cat", "cat", 0.9))
    result.add(Row(1, "b.png", "one", "dog", "dot", 0.25))
    result.add(Row(0, "c.png", "two", "a\tb", None, math.nan, "missing file"))
    return result


def test_rows_as_tsv_keep_their_cells_apart():
    stream = io.StringIO()
    write_predictions(three(), stream, as_json=False)
    head, *rows = [line.split("\t") for line in stream.getvalue().splitlines()]
    assert head == ["id", "path", "set", "label", "text", "confidence", "reason", "right"]
    assert rows[0] == ["0", "a.png", "one", "cat", "cat", "0.9", "", "True"]
    assert rows[2] == ["0", "c.png", "two", "a\\tb", "", "", "missing file", "False"]


def test_rows_as_json_lines():
    stream = io.StringIO()
    write_predictions(three(), stream, as_json=True)
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
