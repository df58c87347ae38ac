import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.exporting import parity
from crnn_jax.exporting.parity import Artefact, answers, size_on_disk, verify
from crnn_jax.exporting.parity_reference import Reference, open_annotations, read_pictures
from crnn_jax.exporting.parity_report import REQUIRED, Comparison, Difference, Report
from tests.testdata.exports import resized, tiny_model, write_annotated

FILE = Artefact("out", "saved_model", "greedy")


@pytest.fixture
def model():
    return tiny_model()


@pytest.fixture
def sources(tmp_path, model):
    return open_annotations(model, [write_annotated(tmp_path, model)])


@pytest.fixture
def runtime(monkeypatch, model):
    """Stands for a runtime: answers as the model would, changed by what the test adds."""
    changes = {"logits": lambda logits: logits, "texts": list, "files": list}

    def fake(_, artefact, images, files):
        reference = Reference(model, artefact.post, artefact.beam_width)
        logits, _ = reference.read(images)
        logits = [changes["logits"](x) for x in logits]
        if artefact.post == "softmax":
            scores = [np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in logits]
        else:
            scores = logits
        frames = np.array([len(x) for x in logits], np.int32)
        padded = np.zeros((len(logits), frames.max(), 37), np.float32)
        for row, x in zip(padded, logits, strict=True):
            row[: len(x)] = x
        texts = changes["texts"](reference.texts(padded, frames))
        told = {
            "version": "a runtime 1.0",
            "texts": texts if artefact.post in ("greedy", "beam_search") else None,
            "files": changes["files"]([*texts, ""]) if files else None,
            "images_per_second": 10.0,
            "files_per_second": 5.0,
        }
        arrays = {"scores": np.concatenate([x.reshape(-1) for x in scores]), "frames": frames}
        return told, arrays

    monkeypatch.setattr(parity, "answers", fake)
    return changes


@pytest.fixture
def out(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"12345")
    return str(path)


@pytest.mark.parametrize("post", ["none", "softmax", "greedy", "beam_search"])
def test_the_same(runtime, model, sources, out, post):
    report = verify(model, dataclasses.replace(FILE, path=out, post=post), sources)
    assert report.passed
    assert (report.pictures, report.size) == (7, 5)
    assert list(report.unreadable.values()) == ["not a picture"]
    assert report.arrays.pictures == 6
    assert report.arrays.largest_difference < 1e-5
    assert report.arrays.labelled == 7
    assert report.arrays.theirs_right == report.arrays.ours_right
    if post != "beam_search":
        assert report.arrays.ours_right == 4
    assert (report.files is None) == (post in ("none", "softmax"))
    if report.files is not None:
        assert report.files.pictures == 7


def test_one_other_text_fails(runtime, model, sources, out):
    runtime["texts"] = lambda texts: [texts[0] + "x", *texts[1:]]
    report = verify(model, dataclasses.replace(FILE, path=out), sources)
    assert not report.passed
    (difference,) = report.arrays.differences
    assert difference.path.endswith("0.png")
    assert difference.theirs == difference.ours + "x"
    assert difference.label == "wrong"
    assert f"{difference.theirs!r}, the model {difference.ours!r}, label 'wrong'" in report.text()


def test_one_other_text_of_a_file_fails(runtime, model, sources, out):
    runtime["files"] = lambda texts: ["x", *texts[1:]]
    report = verify(model, dataclasses.replace(FILE, path=out), sources)
    assert (report.arrays.passed, report.files.passed, report.passed) == (True, False, False)


@pytest.mark.parametrize(("gap", "passes"), [(5e-5, True), (5e-3, False)])
def test_two_classes_as_good_as_equal(runtime, model, sources, out, monkeypatch, gap, passes):
    """The second best class of a frame comes within `gap` of the best, and wins elsewhere."""
    score = Reference.read

    def close(self, images):
        logits = [x.copy() for x in score(self, images)[0]]
        for x in logits:
            best, second = np.argsort(x[0])[[-1, -2]]
            x[0, second] = x[0, best] - gap
        frames = np.array([len(x) for x in logits], np.int32)
        padded = np.zeros((len(logits), frames.max(), 37), np.float32)
        for row, x in zip(padded, logits, strict=True):
            row[: len(x)] = x
        return logits, self.texts(padded, frames)

    def other(x):
        x = x.copy()
        x[0, np.argsort(x[0])[-2]] += 2 * gap
        return x

    monkeypatch.setattr(Reference, "read", close)
    runtime["logits"] = other
    report = verify(model, dataclasses.replace(FILE, path=out, post="none"), sources)
    assert 0 < report.arrays.largest_difference == pytest.approx(2 * gap, rel=0.1)
    assert report.arrays.differences
    assert {difference.near for difference in report.arrays.differences} == {passes}
    assert report.passed == passes


def test_another_number_of_frames(runtime, model, sources, out):
    runtime["logits"] = lambda x: x[:-1]
    with pytest.raises(RuntimeError, match="number of frames"):
        verify(model, dataclasses.replace(FILE, path=out, post="none"), sources)


def test_static_width_is_compared_as_it_is_resized(runtime, model, sources, out):
    artefact = dataclasses.replace(FILE, path=out, width=64)
    report = verify(model, artefact, sources)
    assert report.passed
    assert report.files is None


def test_evenly_spread(model, sources):
    pictures = read_pictures(sources, model.preprocessing, limit=3)
    assert [os.path.basename(path) for path in pictures.paths] == ["0.png", "2.png", "4.png"]


def comparison(kind, different, near=0, pictures=1000):
    differences = [Difference("a", "b", "c", "d", i < near) for i in range(different)]
    return Comparison(kind, pictures, differences, 0.1, 900, 901, 1000, 50.0)


@pytest.mark.parametrize(
    ("kind", "different", "near", "passed"),
    [
        ("arrays", 0, 0, True),
        ("arrays", 1, 0, False),
        ("arrays", 3, 3, True),
        ("bytes", 2, 0, True),
        ("bytes", 3, 0, False),
        ("float16", 5, 0, True),
        ("float16", 6, 0, False),
        ("dynamic", 50, 0, True),
        ("dynamic", 51, 0, False),
    ],
)
def test_shares(kind, different, near, passed):
    assert comparison(kind, different, near).passed == passed


def test_the_report_in_files(tmp_path):
    artefact = {"path": "word", "format": "tflite", "post": "greedy", "precision": "float32"}
    report = Report(
        artefact, "LiteRT", 1_500_000, 1000, {"x.png": "damaged"}, comparison("arrays", 25)
    )
    report.write(str(tmp_path / "r"))
    told = json.loads((tmp_path / "r.json").read_text())
    assert (told["passed"], told["arrays"]["agreement"], told["size"]) == (False, 0.975, 1_500_000)
    assert told["arrays"]["accuracy"] == 0.901
    assert told["arrays"]["required"] == REQUIRED["arrays"] == 1
    assert len(told["arrays"]["differences"]) == 25
    text = (tmp_path / "r.txt").read_text()
    assert text.count("the model 'c'") == 25
    assert "97.50 % (at least 100 %): FAILED" in text
    assert report.text(most=20).count("the model 'c'") == 20
    assert "and 5 more" in report.text(most=20)


def test_a_runtime_that_cannot_read_is_one_line(model, tmp_path):
    path = tmp_path / "broken.tflite"
    path.write_bytes(b"no model")
    with pytest.raises(UserError, match=r"broken.tflite: its runtime cannot read with it: \w"):
        answers(model, Artefact(str(path), "tflite"), resized())


def test_the_process_cannot_import_what_is_blocked(root):
    run = root / "crnn_jax" / "exporting" / "runtimes" / "run.py"
    code = (
        f"exec(open({str(run)!r}).read().partition('if __name__')[0]);"
        "sys.meta_path.insert(0, Blocker(['crnn_jax'])); import crnn_jax.core.errors"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert "crnn_jax is blocked in this process" in done.stderr


def test_size_on_disk(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"123")
    (tmp_path / "a" / "d").write_bytes(b"45")
    assert size_on_disk(str(tmp_path / "a")) == 5
    assert size_on_disk(str(tmp_path / "a" / "d")) == 2
