import json
import zipfile

import numpy as np
import pytest

from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.decoding import greedy
from crnn_jax.exporting import tflite
from crnn_jax.exporting.plan import ExportPlan
from crnn_jax.exporting.tflite import write_tflite
from crnn_jax.exporting.verify import run
from tests.testdata.exports import calm, read_by_model, resized, tf, tiny_model
from tests.testdata.tiny_model import CHARSET

pytestmark = pytest.mark.slow  # the converter and the interpreter are processes of their own
NEAR = {"none": 1e-3, "float16": 0.02, "dynamic": 0.5}


def read(path, images, **options):
    """(texts, logits one after the other) of the stock interpreter, alone in its process."""
    answers, _ = run(tiny_model(), ExportPlan(path, "tflite", **options), images)
    logits = np.concatenate([answer["logits"].reshape(-1) for answer in answers])
    return [CHARSET.decode(answer["ids"]) for answer in answers], logits


@pytest.mark.parametrize("quantize", ["none", "float16", "dynamic"])
def test_free_batch_and_width(tmp_path, quantize):
    path = tmp_path / "word.tflite"
    model = calm(tiny_model())
    write_tflite(model, str(path), quantize=quantize)
    images = [*resized(seed=4), resized(seed=4)[0]]
    texts, scores = read(str(path), images)
    logits, want = read_by_model(model, images)
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
    write_tflite(tiny_model(), path, batch=3, width=100)
    rule = Preprocessing(width=100)
    images = [rule.resize(np.rot90(image)) for image in resized()]  # four of them
    texts, _ = read(path, images, batch=3, width=100)
    assert texts == read_by_model(tiny_model(), images)[1]
    with zipfile.ZipFile(path) as archive:
        told = json.loads(archive.read("crnn_jax.json"))
        labels = archive.read("labels.txt").decode().splitlines()
    assert told["preprocessing"] == rule.to_metadata()
    assert told["symbols"] == labels == [*CHARSET.symbols[:-1], ""]


FRAMES = np.array([13, 0, 1, 7, 12], np.int32)


@pytest.mark.parametrize("blank_id", [0, 3, 5])
def test_decoding_in_tensorflow_is_ours(blank_id):
    """Of logits in which classes repeat, with blanks between some of them."""
    logits = np.random.default_rng(blank_id).normal(size=(5, 13, 6)).astype(np.float32)
    logits[:, :, blank_id] += 1
    logits[3, 2:4] = logits[3, 1]
    want, lengths = greedy.greedy_decode(logits, FRAMES, blank_id=blank_id)
    got, got_lengths = tflite.greedy_decode(tf.constant(logits), FRAMES, blank_id)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(got_lengths, lengths)
    assert lengths.tolist()[1] == 0
    assert max(lengths.tolist()) > 4
    of_ours = greedy.sequence_log_prob(logits, FRAMES, want, lengths, blank_id=blank_id)
    of_theirs = tflite.sequence_log_prob(tf.constant(logits), FRAMES, got, got_lengths, blank_id)
    np.testing.assert_allclose(of_theirs, of_ours, atol=1e-5)
    for unknown_id in (-1, 2):
        allowed = tflite.emittable(tf.constant(logits), unknown_id)
        np.testing.assert_array_equal(allowed, greedy.emittable(logits, unknown_id=unknown_id))
