import functools

import pytest

from crnn_jax import export
from crnn_jax.data.files import FileSource
from crnn_jax.exporting import verify
from crnn_jax.exporting.plan import ExportPlan
from crnn_jax.reading.loaded_model import LoadedModel
from tests.testdata.exports import write_annotated
from tests.testdata.stores import copied
from tests.testdata.tiny_model import CHARSET


@pytest.fixture
def call(run):
    return functools.partial(run, export)


@pytest.fixture
def annotation(tmp_path, model):
    folder = tmp_path / "pictures"
    folder.mkdir()
    return write_annotated(folder, LoadedModel.open(model))


def test_a_file_that_reads_the_same(call, model, annotation, tmp_path):
    out = tmp_path / "word.stablehlo"
    code, lines, _ = call("-o", out, "-m", model, "--format", "stablehlo", "--verify", annotation)
    assert code == 0
    assert lines[0] == str(out)
    assert "arrays: 6 of 6 texts the same, 100.00 % (at least 100 %): passed" in lines
    assert "1 images cannot be read and count as wrong" in lines
    assert any(line.startswith("  correct: 57.14 %, the model itself 57.14 %; ") for line in lines)
    written = (tmp_path / "word.stablehlo.parity.txt").read_text().splitlines()
    assert written == lines[1:]


@pytest.mark.parametrize(
    ("words", "limit"), [([], 10_000), (["--limit", 5], 5), (["--limit", 0], 0)]
)
def test_how_many_images_are_compared(call, model, annotation, tmp_path, monkeypatch, words, limit):
    def compare(model, plan, sources, *, limit):
        limits.append(limit)
        return verify.Report(passed=True, figures=[], differences=[])

    limits = []
    monkeypatch.setattr(verify, "verify", compare)
    monkeypatch.setattr(ExportPlan, "write", lambda *_, **__: [])
    assert call("-o", tmp_path / "word", "-m", model, "--verify", annotation, *words)[0] == 0
    assert limits == [limit]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "form"), [("lmdb", "saved_model"), ("array_record", "stablehlo")])
def test_verify_on_a_store(call, model, annotation, tmp_path, kind, form):
    path = copied(kind, FileSource(annotation, CHARSET), tmp_path / "store")
    words = ("-m", model, "--format", form, "--verify", path)
    code, lines, err = call("-o", tmp_path / "word", *words)
    assert code == 0, err
    assert "arrays: 6 of 6 texts the same, 100.00 % (at least 100 %): passed" in lines
    files = "files: 7 of 7 texts the same, 100.00 % (at least 99.8 %): passed"
    assert (files in lines) == (form == "saved_model")  # the others take no files


def test_a_file_that_reads_otherwise(call, model, annotation, tmp_path, monkeypatch):
    """It is that of another network."""

    def export_another(self, model, path):
        from crnn_jax.exporting.stablehlo import write_stablehlo

        params = dict(model.variables["params"])
        params["logits"] = {k: v[..., ::-1] for k, v in params["logits"].items()}
        other = LoadedModel.of(model.variables | {"params": params}, model.metadata)
        write_stablehlo(other, path)

    monkeypatch.setattr(ExportPlan, "_export", export_another)
    out = tmp_path / "word.stablehlo"
    code, lines, _ = call("-o", out, "-m", model, "--format", "stablehlo", "--verify", annotation)
    assert code == 1
    assert any(line.endswith("(at least 100 %): FAILED") for line in lines)
    assert "FAILED" in (tmp_path / "word.stablehlo.parity.txt").read_text()


def test_opencv_takes_one_width_and_says_so(call, model, tmp_path):
    onnx = pytest.importorskip("onnx", reason="extra `onnx`")
    found = {}
    for flag, width in (("--width", 0), ("-w", 300), ("--img_width", 200)):
        out = tmp_path / f"{width}.onnx"
        words = ("--format", "onnx", "--layout", "opencv", flag, width)
        code, _, err = call("-o", out, "-m", model, *words)
        assert code == 0, err
        shape = onnx.load(out).graph.input[0].type.tensor_type.shape
        found[shape.dim[3].dim_value] = any("squeezed or stretched to 100 px" in e for e in err)
    assert found == {100: True, 300: False, 200: False}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--format", "tflite", "--post", "beam_search"], "error: --post beam_search: "),
        (["--format", "pickle"], "crnn-jax export: argument --format: invalid choice"),
        (["-m", "nowhere.safetensors"], "error: nowhere.safetensors: "),
        (["--beam_width", "0"], "crnn-jax export: argument --beam-width: 0: must be"),
        (["--format", "stablehlo", "--verify", "none.txt"], "error: none.txt: "),
        (["--format", "web", "--verify", "none.txt"], "crnn-jax export: --verify does not "),
        (["--limit", "0"], "crnn-jax export: --limit and --images need --verify"),
        (["--images", "."], "crnn-jax export: --limit and --images need --verify"),
    ],
)
def test_mistakes_are_one_line(call, model, tmp_path, words, complaint):
    code, out, (line,) = call("-o", tmp_path / "out", "-m", model, *words)
    assert (code, out) == (2, [])
    assert line.startswith(complaint)
    assert not (tmp_path / "out").exists()
