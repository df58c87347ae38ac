import os

import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.exporting.plan import ExportPlan
from tests.testdata.exports import tiny_model


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A plan whose export writes two small files."""
    monkeypatch.setattr(ExportPlan, "_export", write_two)
    return ExportPlan(str(tmp_path / "word.onnx"), "onnx")


def write_two(self, model, path):
    for name in (path, path + "_vocabulary.txt"):
        with open(name, "w") as file:
            file.write("new")


OPENCV = {"format": "onnx", "output": "x.onnx", "layout": "opencv"}


def everything(folder):
    return sorted(os.listdir(folder))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"format": "tflite", "post": "beam_search"}, "--post beam_search: --format tflite has"),
        ({"format": "keras", "output": "x.h5", "post": "greedy"}, "--format keras has none"),
        ({"format": "web", "post": "none"}, "--format web has greedy"),
        ({"format": "saved_model", "quantize": "float16"}, "--quantize float16: it is for"),
        ({"format": "keras", "output": "x.h5", "layout": "opencv"}, "it is for --format onnx"),
        ({"format": "saved_model", "width": 100}, "--width 100: it is for --format tflite"),
        ({"format": "onnx", "output": "x.onnx", "width": 100}, "format tflite or --layout opencv"),
        ({"format": "tflite", "batch": 1}, "both fixed, or both free"),
        ({"format": "saved_model", "beam_width": 50}, "--beam-width 50: it is for --post beam_se"),
        ({"format": "saved_model", "beam_width": 10}, "--beam-width 10: it is for --post beam_se"),
        ({"format": "keras"}, "-o x: end it in .h5 or .hdf5"),
        ({"format": "tflite", "batch": 1, "width": 4}, "--width 4: must be at least 5 pixels"),
        ({**OPENCV, "width": 4}, "--width 4: must be at least 5 pixels"),
    ],
)
def test_what_there_is_not(options, complaint):
    with pytest.raises(UserError, match=complaint):
        ExportPlan(**{"output": "x", **options})


def test_a_beam_search_has_a_width():
    assert ExportPlan("x", "saved_model", post="beam_search").beam_width == 10
    assert ExportPlan("x", "saved_model", post="beam_search", beam_width=3).beam_width == 3


def test_all_files_are_moved_to_their_place(plan, tmp_path):
    written = plan.write(tiny_model())
    assert written == [plan.output, plan.output + "_vocabulary.txt"]
    assert everything(tmp_path) == ["word.onnx", "word.onnx_vocabulary.txt"]


def test_nothing_is_overwritten_unless_asked(plan, tmp_path):
    (tmp_path / "word.onnx").write_text("old")
    with pytest.raises(UserError, match=r"word\.onnx exists; --overwrite replaces it"):
        plan.write(tiny_model())
    assert (tmp_path / "word.onnx").read_text() == "old"
    plan.write(tiny_model(), overwrite=True)
    assert (tmp_path / "word.onnx").read_text() == "new"


@pytest.mark.parametrize("made", ["file", "folder"])
def test_a_link_to_a_folder_is_replaced_and_not_what_it_leads_to(plan, tmp_path, monkeypatch, made):
    if made == "folder":
        monkeypatch.setattr(ExportPlan, "_export", lambda self, model, path: os.mkdir(path))
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "x").write_text("old")
    (tmp_path / "word.onnx").symlink_to("kept")
    plan.write(tiny_model(), overwrite=True)
    assert not (tmp_path / "word.onnx").is_symlink()
    assert (tmp_path / "word.onnx").is_dir() == (made == "folder")
    assert (tmp_path / "kept" / "x").read_text() == "old"
    assert not [name for name in everything(tmp_path) if "partial" in name]


def test_a_folder_replaces_a_file(plan, tmp_path, monkeypatch):
    (tmp_path / "word.onnx").write_text("old")
    monkeypatch.setattr(ExportPlan, "_export", lambda self, model, path: os.mkdir(path))
    plan.write(tiny_model(), overwrite=True)
    assert (tmp_path / "word.onnx").is_dir()
    assert everything(tmp_path) == ["word.onnx"]


def test_neither_is_a_file_beside_the_output(plan, tmp_path):
    (tmp_path / "word.onnx_vocabulary.txt").write_text("old")
    with pytest.raises(UserError, match=r"word\.onnx_vocabulary\.txt exists; --overwrite"):
        plan.write(tiny_model())
    assert everything(tmp_path) == ["word.onnx_vocabulary.txt"]
    assert (tmp_path / "word.onnx_vocabulary.txt").read_text() == "old"


def test_a_failed_export_leaves_what_was_there(plan, tmp_path, monkeypatch):
    def fail(self, model, path):
        write_two(self, model, path)
        raise UserError("halfway")

    (tmp_path / "word.onnx").write_text("old")
    monkeypatch.setattr(ExportPlan, "_export", fail)
    with pytest.raises(UserError, match="halfway"):
        plan.write(tiny_model(), overwrite=True)
    assert everything(tmp_path) == ["word.onnx"]
    assert (tmp_path / "word.onnx").read_text() == "old"
