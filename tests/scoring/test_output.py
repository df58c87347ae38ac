import json

import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.scoring.compare import compare
from crnn_jax.scoring.output import is_folder, markdown_page, require_writable, write_outputs
from crnn_jax.scoring.result import EvaluationResult, Row


@pytest.fixture
def result():
    found = EvaluationResult()
    found.add(Row(0, "a.png", "one", "cat", "cat", 0.9))
    found.add(Row(1, "b.png", "one", "dogs", "dot", 0.25))
    found.add(Row(2, "c.png", "one", "dogs", "dogs", 0.5))
    found.add(Row(0, "d.png", "t|wo_", "ab", "Ab", 0.5))
    found.note_aspects("one", np.array([[10, 25], [0, -1], [10, 70]]))
    return found


def test_a_folder_gets_everything(tmp_path, result):
    folder = tmp_path / "new" / "results"
    write_outputs(str(folder), result, {"model": "m"}, compare(result, result), result)
    names = {path.name for path in folder.iterdir()}
    assert names == {"result.json", "result.md", "predictions.tsv", "predictions_b.tsv"}
    whole = json.loads((folder / "result.json").read_text())
    assert whole["model"] == "m"
    one, _, combined = whole["sets"]
    assert one["by_length"]["4"]["count"] == 2
    assert one["by_length"]["4"]["accuracy_interval"][0] < 0.5
    assert list(combined["by_aspect"]) == ["2-3", "6-8", "unknown"]
    assert combined["accuracy"] == 2 / 4
    assert combined["set_mean"]["accuracy"] == pytest.approx((2 / 3 + 0) / 2)
    assert combined["set_mean"]["cer"] == pytest.approx((2 / 11 + 1 / 2) / 2)
    assert whole["comparison"][-1]["accuracy"]["both"] == 2
    assert len((folder / "predictions.tsv").read_text().splitlines()) == 5


def test_markdown_holds_its_columns(result):
    lines = list(markdown_page(result, {"model": "m"}, compare(result, result)))
    tables = [line for line in lines if line.startswith("|")]
    assert sum("|---" in line for line in tables) == 4  # sets, length, shape, comparison
    widths = {line.replace("\\|", "").count("|") for line in tables[:6]}
    assert len(widths) == 1  # a set's name with a bar in it ends no cell
    assert any(line.startswith("| mean of the sets |  | 33.33 |") for line in lines)
    assert any(line.startswith("| 4 | 2 | 50.00 (9.5-90.5) |") for line in lines)


def test_endings_tell_what_a_file_holds(tmp_path, result):
    for name, first in (("r.md", "# Evaluation"), ("r.tsv", "id\t"), ("r.jsonl", '{"id": 0')):
        write_outputs(str(tmp_path / name), result, {})
        assert (tmp_path / name).read_text().startswith(first)
    write_outputs(str(tmp_path / "result.json"), result, {})  # a file: samples, whatever its name
    assert len((tmp_path / "result.json").read_text().splitlines()) == 4
    write_outputs(None, result, {})


def test_a_folder_or_a_file(tmp_path):
    assert is_folder(str(tmp_path))
    assert is_folder("new/")
    assert is_folder("new")
    assert not is_folder("new.tsv")
    (tmp_path / "rows").write_text("")
    assert not is_folder(str(tmp_path / "rows"))


def test_what_cannot_be_written_is_told_before(tmp_path):
    (tmp_path / "file").write_text("kept")
    require_writable(str(tmp_path / "file"), None, str(tmp_path / "new.tsv"), str(tmp_path / "d"))
    assert (tmp_path / "file").read_text() == "kept"
    assert not (tmp_path / "new.tsv").exists()
    for wrong in ("file/x.tsv", "file/x", "no/x.tsv"):
        with pytest.raises(UserError, match="cannot be written"):
            require_writable(str(tmp_path / wrong))
    with pytest.raises(UserError, match="cannot be written"):
        write_outputs(str(tmp_path / "no" / "x.tsv"), EvaluationResult(), {})


def test_odd_names_are_written(tmp_path):
    result = EvaluationResult()
    result.add(Row(0, "a\udcff.png", "one", "cat", "cat", 0.9))
    write_outputs(str(tmp_path / "all"), result, {"model": "\udcff"})
    assert "a\\udcff.png" in (tmp_path / "all" / "predictions.tsv").read_text()
