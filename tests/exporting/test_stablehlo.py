import json
import zipfile

import jax
import numpy as np
import pytest

from crnn_jax.exporting.stablehlo import write_stablehlo
from crnn_jax.reading.recognizer import Recognizer
from tests.testdata.exports import calm, padded, read_by_model, resized, tiny_model
from tests.testdata.tiny_model import CHARSET

SLOW = [pytest.param(post, marks=pytest.mark.slow) for post in ("none", "softmax", "beam_search")]


@pytest.mark.parametrize("post", ["greedy", *SLOW])
def test_any_batch_and_width(tmp_path, root, post):
    model = calm(tiny_model(temperature=1.5))
    path = tmp_path / "word.stablehlo"
    write_stablehlo(model, str(path), post=post, beam_width=3)
    data = path.read_bytes()
    assert str(root).encode() not in data
    program = jax.export.deserialize(bytearray(data))
    assert program.platforms == ("cpu", "cuda", "tpu")
    images = resized()
    out = program.call(*padded(images))
    logits, texts = read_by_model(model, images, post, 3)
    assert out["frames"].tolist() == [len(x) for x in logits]
    if post == "softmax":
        np.testing.assert_allclose(out["probabilities"][0].sum(axis=-1), 1, rtol=1e-5)
        assert set(out) == {"probabilities", "frames"}
        return
    for row, own in zip(out["logits"], logits, strict=True):
        np.testing.assert_allclose(row[: len(own)], own, atol=1e-3)
    if post != "none":
        assert [CHARSET.decode(ids) for ids in out["ids"]] == texts
    if post == "greedy":
        readings = Recognizer(model.variables, model.metadata).read(images)
        confidences = [reading.confidence for reading in readings]
        np.testing.assert_allclose(out["confidence"], confidences, rtol=1e-2)
    with zipfile.ZipFile(path) as archive:
        told = json.loads(archive.read("crnn_jax.json"))
    assert (told["symbols"][:2], told["post"]) == (["0", "1"], post)
