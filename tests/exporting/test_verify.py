import dataclasses

import numpy as np
import pytest

from crnn_jax.core.charset import UNKNOWN, Charset
from crnn_jax.core.errors import UserError
from crnn_jax.exporting import verify as room
from crnn_jax.exporting.plan import ExportPlan
from crnn_jax.exporting.verify import (
    BLOCKED,
    Reference,
    open_sources,
    run,
    verify,
)
from tests.testdata.exports import calm, resized, tiny_model, write_annotated
from tests.testdata.tiny_model import CHARSET

WITH_UNKNOWN = Charset((*CHARSET.symbols[:5], UNKNOWN, *CHARSET.symbols[6:]), CHARSET.blank_id, 5)


@pytest.fixture
def model(request):
    return tiny_model(getattr(request, "param", CHARSET))


@pytest.fixture
def sources(tmp_path, model):
    return open_sources(model, [write_annotated(tmp_path, model)])


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "out").write_bytes(b"12345")
    return ExportPlan(str(tmp_path / "out"), "saved_model")


@pytest.fixture
def runtime(monkeypatch, model):
    """Stands for a runtime: answers as the model would, changed by what the test adds."""
    changes = {"logits": lambda logits: logits, "texts": list, "files": list}

    def fake(_, plan, images, files):
        reference = Reference(model, plan)
        logits = [changes["logits"](x) for x in reference.read(images)[0]]
        texts = reference.texts(logits)
        told = {"version": "a runtime 1.0", "images_per_second": 10.0, "files_per_second": 5.0}
        if files:
            told["files"] = changes["files"]([*texts, ""])
        if plan.post == "softmax":
            return [
                {"probabilities": np.exp(x) / np.exp(x).sum(1, keepdims=True)} for x in logits
            ], told
        answers = [{"logits": x} for x in logits]
        if plan.post != "none":
            for answer, text in zip(answers, changes["texts"](texts), strict=True):
                answer["text"] = text
        return answers, told

    monkeypatch.setattr(room, "run", fake)
    return changes


@pytest.mark.parametrize("post", ["none", "softmax", "greedy", "beam_search"])
def test_the_same(runtime, model, sources, plan, post):
    report = verify(model, dataclasses.replace(plan, post=post), sources)
    assert report.passed
    lines = report.figures
    assert lines[0] == f"out: saved_model, post {post}, float32, 0.00 MB, a runtime 1.0, 7 images"
    assert lines[1] == "1 images cannot be read and count as wrong"
    assert lines[2] == "arrays: 6 of 6 texts the same, 100.00 % (at least 100 %): passed"
    if post != "beam_search":  # 4 labels of 7 are what the model reads
        assert lines[3] == "  correct: 57.14 %, the model itself 57.14 %; 10 images/s"
    assert float(lines[4].rpartition(" ")[2]) < 1e-5
    files = "files: 7 of 7 texts the same, 100.00 % (at least 99.8 %): passed"
    assert (files in lines) == (post not in ("none", "softmax"))


@pytest.mark.parametrize("what", ["texts", "files"])
def test_one_other_text_fails(runtime, model, sources, plan, what):
    runtime[what] = lambda texts: ["x", *texts[1:]]
    report = verify(model, plan, sources)
    assert not report.passed
    (line,) = report.differences
    ours = Reference(model, plan).read([model.preprocessing.resize(sources[0].read([0])[0])])[1][0]
    assert line.endswith(f"0.png: 'x', the model {ours!r}, label 'wrong'")
    name = "arrays" if what == "texts" else "files"
    assert [x.split(":")[0] for x in report.figures if "FAILED" in x] == [name]


@pytest.mark.parametrize("model", [CHARSET, WITH_UNKNOWN], indirect=True, ids=["", UNKNOWN])
@pytest.mark.parametrize(("gap", "passes"), [(5e-5, True), (5e-3, False)])
def test_two_classes_as_good_as_equal(runtime, model, sources, plan, monkeypatch, gap, passes):
    """The second best class of a frame comes within `gap` of the best, and wins elsewhere."""
    read = Reference.read

    def close(self, images):
        logits = [x.copy() for x in read(self, images)[0]]
        for x in logits:
            best, second = np.argsort(x[0])[[-1, -2]]
            x[0, second] = x[0, best] - gap
        return logits, self.texts(logits)

    def other(x):
        x = x.copy()
        x[0, np.argsort(x[0])[-2]] += 2 * gap
        return x

    monkeypatch.setattr(Reference, "read", close)
    runtime["logits"] = other
    report = verify(model, dataclasses.replace(plan, post="none"), sources)
    assert float(report.figures[4].rpartition(" ")[2]) == pytest.approx(2 * gap, rel=0.1)
    assert report.differences
    assert all(line.endswith(", rounding decides") == passes for line in report.differences)
    assert report.passed == passes


@pytest.mark.slow
def test_a_runtime_that_cannot_read_is_one_line(model, tmp_path):
    path = tmp_path / "broken.tflite"
    path.write_bytes(b"no model")
    with pytest.raises(UserError, match=r"broken.tflite: its runtime cannot read with it: \w"):
        run(model, ExportPlan(str(path), "tflite"), resized())


def test_keras_reads_with_tensorflow_whatever_backend_is_set(model, monkeypatch):
    def started(*_, env, **__):
        raise RuntimeError(f"by {env['KERAS_BACKEND']}")

    monkeypatch.setattr("subprocess.run", started)
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # which is blocked there
    with pytest.raises(UserError, match="by tensorflow"):
        run(model, ExportPlan("x.h5", "keras"), resized())


@pytest.mark.slow
def test_the_process_cannot_import_what_is_blocked(tmp_path, model, monkeypatch):
    monkeypatch.setitem(BLOCKED, "stablehlo", ("jax",))
    (tmp_path / "x").write_bytes(b"1")
    with pytest.raises(UserError, match="import of jax halted"):
        run(model, ExportPlan(str(tmp_path / "x"), "stablehlo"), resized())


@pytest.mark.parametrize(("layout", "text"), [("standard", "a b"), ("opencv", "a  b")])
def test_opencv_reads_two_spaces_where_the_model_reads_one(layout, text):
    model = tiny_model(Charset.from_characters(" ab"))
    scores = 9 * np.eye(4, dtype=np.float32)[[1, 0, model.charset.blank_id, 0, 2]]
    assert Reference(model, ExportPlan("x.onnx", "onnx", layout=layout)).texts([scores]) == [text]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form", "layout"),
    [
        ("x", "saved_model", "standard"),
        ("x", "stablehlo", "standard"),
        ("x.tflite", "tflite", "standard"),
        ("x.onnx", "onnx", "opencv"),
    ],
)
def test_spaces_and_alphabets_are_those_of_the_decoder_inside(tmp_path, name, form, layout):
    model = calm(tiny_model(Charset.from_characters(" abcабвαβγ1")))
    plan = ExportPlan(str(tmp_path / name), form, layout=layout)
    plan.write(model)
    sources = open_sources(model, [write_annotated(tmp_path, model, 24)])
    report = verify(model, plan, sources)
    assert report.passed, report.figures
