import json
import zipfile

import numpy as np
import pytest

from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.exporting.plan import ExportPlan
from crnn_jax.exporting.tflite import write_tflite
from crnn_jax.exporting.verify import run
from crnn_jax.reading.recognizer import Recognizer
from tests.testdata.exports import calm, read_by_model, resized, tiny_model
from tests.testdata.tiny_model import CHARSET

pytestmark = pytest.mark.slow  # the converter and the interpreter are processes of their own
NEAR = {"none": 1e-3, "float16": 0.02, "dynamic": 0.5}


def read(path, images, **options):
    """(texts, confidences, all logits) of the stock interpreter, alone in its process."""
    answers, _ = run(tiny_model(), ExportPlan(path, "tflite", **options), images)
    logits = np.concatenate([answer["logits"].reshape(-1) for answer in answers])
    texts = [CHARSET.decode(answer["ids"]) for answer in answers]
    assert texts == [CHARSET.decode(answer["ids"][: answer["lengths"]]) for answer in answers]
    return texts, [answer["confidence"] for answer in answers], logits


@pytest.mark.parametrize("quantize", ["none", "float16", "dynamic"])
def test_free_batch_and_width(tmp_path, quantize):
    path = tmp_path / "word.tflite"
    model = calm(tiny_model())
    write_tflite(model, str(path), quantize=quantize)
    images = [*resized(seed=4), resized(seed=4)[0]]
    texts, confidences, scores = read(str(path), images)
    logits, want = read_by_model(model, images)
    logits = np.concatenate([x.reshape(-1) for x in logits])
    assert logits.max() > 2
    np.testing.assert_allclose(scores, logits, atol=NEAR[quantize])
    if quantize == "none":
        assert texts == want
        assert len("".join(texts)) > 10
        recognizer = Recognizer(model.variables, model.metadata)
        sure = [reading.confidence for image in images for reading in recognizer.read([image])]
        np.testing.assert_allclose(confidences, sure, rtol=1e-3)
    else:  # it was quantized indeed
        assert np.abs(scores - logits).max() > 1e-4


def test_static_shapes_with_what_a_reader_needs(tmp_path):
    path = str(tmp_path / "word.tflite")
    write_tflite(tiny_model(), path, batch=3, width=100)
    rule = Preprocessing(width=100)
    images = [rule.resize(np.rot90(image)) for image in resized()]  # four of them
    texts, *_ = read(path, images, batch=3, width=100)
    assert texts == read_by_model(tiny_model(), images)[1]
    with zipfile.ZipFile(path) as archive:
        told = json.loads(archive.read("crnn_jax.json"))
        labels = archive.read("labels.txt").decode().splitlines()
    assert told["preprocessing"] == rule.to_metadata() | {"min_width": 100, "max_width": 100}
    assert told["symbols"] == labels == [*CHARSET.symbols[:-1], ""]
