import json
import zipfile

import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.exporting.parity import Artefact, answers
from crnn_jax.exporting.parity_reference import Reference
from crnn_jax.exporting.tflite_model import write_tflite
from tests.testdata.exports import calm, resized, tiny_model
from tests.testdata.tiny_model import CHARSET

NEAR = {"none": 1e-3, "float16": 0.02, "dynamic": 0.5}


def read(path, images, **options):
    """(texts, logits one after the other) of the stock interpreter, alone in its process."""
    _, arrays = answers(tiny_model(), Artefact(path, "tflite", "greedy", **options), images)
    rows = np.split(arrays["ids"], np.cumsum(arrays["columns"])[:-1])
    return [CHARSET.decode(row) for row in rows], arrays["scores"]


@pytest.mark.parametrize(
    "quantize", ["none", pytest.param("float16", marks=pytest.mark.slow), "dynamic"]
)
def test_free_batch_and_width(tmp_path, quantize):
    path = tmp_path / "word.tflite"
    model = calm(tiny_model())
    write_tflite(model, str(path), quantize=quantize)
    images = [*resized(), resized()[0]]
    texts, scores = read(str(path), images)
    logits, want = Reference(model, "greedy", 1).read(images)
    logits = np.concatenate([x.reshape(-1) for x in logits])
    assert logits.max() > 2
    np.testing.assert_allclose(scores, logits, atol=NEAR[quantize])
    if quantize == "none":
        assert texts == want
        assert len("".join(texts)) > 10
    else:  # it was quantized indeed
        assert np.abs(scores - logits).max() > 1e-4


def test_static_shapes_with_what_a_reader_needs(tmp_path):
    path = str(tmp_path / "word.tflite")
    write_tflite(tiny_model(), path, batch=1, width=100)
    rule = Preprocessing(width=100)
    images = [rule.resize(np.rot90(image)) for image in resized()]
    texts, _ = read(path, images, batch=1, width=100)
    assert texts == Reference(tiny_model(), "greedy", 1).read(images)[1]
    with zipfile.ZipFile(path) as archive:
        told = json.loads(archive.read("crnn_jax.json"))
        labels = archive.read("labels.txt").decode().splitlines()
    assert told["preprocessing"] == rule.to_metadata()
    assert told["symbols"] == labels == [*CHARSET.symbols[:-1], ""]


def test_what_there_is_not(tmp_path):
    path = str(tmp_path / "word.tflite")
    with pytest.raises(UserError, match="--post beam_search"):
        write_tflite(tiny_model(), path, post="beam_search")
    with pytest.raises(UserError, match="both fixed, or both free"):
        write_tflite(tiny_model(), path, batch=1)


def test_a_converter_that_fails_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("crnn_jax.exporting.tflite_model._write_source", lambda *_: None)
    with pytest.raises(UserError, match=r"word.tflite: TensorFlow's converter failed: .*not exist"):
        write_tflite(tiny_model(), str(tmp_path / "word.tflite"))
