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
    is_folder,
    markdown_page,
    prediction_lines,
    predictions_file,
    read_predictions,
    require_writable,
    table,
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
    assert combined["set_mean"]["accuracy"] == pytest.approx((2 / 4 + 0) / 2)
    assert combined["set_mean"]["cer"] == pytest.approx((4 / 13 + 1 / 3) / 2)
    assert whole["comparison"][-1]["accuracy"]["both"] == 2
    rows = (folder / "predictions.tsv").read_text().splitlines(keepends=True)
    assert rows[:2] == [HEAD, "0\ta.png\tone\tcat\tcat\t0.9\t\tTrue\n"]
    assert rows[5] == "0\td\\udcff.png\tt|wo_\ta\\tb\tA\\tb\t0.5\t\tFalse\n"


def test_tables(result):
    lines = table(result).splitlines()
    assert lines[1].split()[:3] == ["one", "4", "50.00"]
    assert lines[3].split()[:4] == ["combined", "5", "40.00", "(11.8-76.9)"]
    assert len({len(line) for line in lines[:4]}) == 1
    notes = ("no letter or digit in the label", "missing file (in the counts above)")
    assert all(note in line for note, line in zip(notes, lines[4:6], strict=True))
    assert table(EvaluationResult()).splitlines()[1].split()[:3] == ["combined", "0", "-"]
    lines = [line for line in markdown_page(result, {}, compare(result, result)) if line[:1] == "|"]
    assert sum("|---" in line for line in lines) == 4  # sets, length, shape, comparison
    # A set's name with a bar in it ends no cell.
    assert len({line.replace("\\|", "").count("|") for line in lines[:6]}) == 1
    assert any(line.startswith("| 4 | 2 | 50.00 (9.5-90.5) |") for line in lines)


def test_endings_tell_what_a_file_holds(tmp_path, result):
    for name, first in (("r.md", "# Evaluation"), ("r.tsv", "id\t"), ("r.json", '{"id": 0')):
        write_outputs(str(tmp_path / name), result, {})
        assert (tmp_path / name).read_text().startswith(first)
    write_outputs(None, result, {})
    (tmp_path / "rows").write_text("")
    folders = {str(tmp_path): True, "new/": True, "new": True, "new.tsv": False}
    for path, is_one in folders.items() | {(str(tmp_path / "rows"), False)}:
        assert is_folder(path) == is_one


def test_what_cannot_be_written_is_told_before(tmp_path):
    (tmp_path / "file").write_text("kept")
    require_writable(str(tmp_path / "file"), None, str(tmp_path / "new.tsv"), str(tmp_path / "d"))
    assert (tmp_path / "file").read_text() == "kept"
    assert not (tmp_path / "new.tsv").exists()
    for wrong in ("file/x.tsv", "file/x", "no/x.tsv"):
        for write in (require_writable, lambda path: write_outputs(path, EvaluationResult(), {})):
            with pytest.raises(UserError, match="cannot be written"):
                write(str(tmp_path / wrong))


@given(st.lists(st.tuples(TEXT, TEXT, st.none() | TEXT)), st.booleans())
def test_predictions_that_were_written_are_read(tmp_path_factory, found, as_json):
    result = EvaluationResult()
    for i, (path, label, text) in enumerate(found):
        known = (0.25, None) if text is not None else (math.nan, "missing file")
        result.add(Row(i, path, "a set", label, text, *known))
    file = tmp_path_factory.mktemp("p") / ("p.jsonl" if as_json else "p.tsv")
    with open(file, "w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(prediction_lines(result, as_json))
    read = read_predictions(str(file))
    assert [row.to_json() for row in read.rows] == [row.to_json() for row in result.rows]
    assert read.sets == result.sets


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("p.tsv", b"path label\n", "p.tsv:1"),
        ("p.tsv", b"", "p.tsv:1"),
        ("p.tsv", HEAD.encode() + b"1\t2\n", "p.tsv:2"),
        ("p.tsv", HEAD.encode() + b"x\tp\ts\ta\ta\t0.5\t\tTrue\n", "p.tsv:2"),
        ("p.tsv", HEAD.encode() + b"1\tp\ts\ta\\z\ta\t0.5\t\tTrue\n", "p.tsv:2"),
        ("p.jsonl", b"[1]\n", "p.jsonl:1"),
        ("p.jsonl", b'{"id": 1}\n', "p.jsonl:1"),
        ("p.jsonl", b"nonsense\n", "p.jsonl:1"),
        ("p.tsv", b"\xff\xfe", "p.tsv:1: not UTF-8"),
        ("p.tsv", None, "p.tsv: cannot be read"),
    ],
)
def test_another_file_is_told_with_its_line(tmp_path, name, content, where):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=where):
        read_predictions(str(tmp_path / name))


def test_predictions_or_a_model(tmp_path):
    assert predictions_file("x/p.tsv") == "x/p.tsv"
    assert predictions_file("model.safetensors") is None
    assert predictions_file(str(tmp_path)) is None  # a workdir
    (tmp_path / "predictions.tsv").write_text("")
    assert predictions_file(str(tmp_path)) == str(tmp_path / "predictions.tsv")
