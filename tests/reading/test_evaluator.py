import numpy as np
import pytest
from PIL import Image

from crnn_jax.reading.decoder import Decoder
from crnn_jax.reading.evaluator import (
    TEMPERATURES,
    evaluate_source,
    find_temperature,
    open_annotation,
)
from crnn_jax.reading.recognizer import Recognizer
from tests.testdata.tiny_model import noise_pictures, tiny_metadata, tiny_variables


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer(tiny_variables()[0], tiny_metadata())


@pytest.fixture(scope="module")
def source(tmp_path_factory, recognizer):
    return make_source(tmp_path_factory.mktemp("data"), recognizer, blocks(200), views=False)


def blocks(count):
    """Images of one size: one compilation."""
    levels = np.random.default_rng(8).integers(0, 256, (count, 4, 8), np.uint8)
    return [*np.kron(levels, np.ones((1, 8, 8), np.uint8))]


def make_source(folder, recognizer, images, views):
    """Labels drawn so that a reading is right as often as confidence at temperature 0.4 says."""
    judge = Recognizer(tiny_variables()[0], tiny_metadata(temperature=0.4, views=views))
    random = np.random.default_rng(0)
    lines = []
    for i, (image, reading) in enumerate(zip(images, judge.read(images), strict=True)):
        Image.fromarray(image).save(folder / f"{i}.png")
        right = random.random() < reading.confidence
        lines.append(f"{i}.png {reading.text if right else 'wrong'}\n")
    (folder / "broken.png").write_bytes(b"no picture")
    lines.append("broken.png abc\n")
    (folder / "all.txt").write_text("".join(lines))
    return open_annotation(recognizer, str(folder / "all.txt"))


@pytest.mark.parametrize("name", ["greedy", pytest.param("beam", marks=pytest.mark.slow)])
def test_the_temperature_that_made_the_labels_is_found(recognizer, source, name):
    decoder = Decoder(name, beam_width=4)
    found = find_temperature(recognizer, [source], decoder)
    assert TEMPERATURES[0] < found < TEMPERATURES[-1]
    # Beam search reads some texts that the labels were not drawn for.
    assert found == pytest.approx(0.4, rel=0.3 if decoder.name == "greedy" else 0.5)
    # The model's own temperature plays no part, nor does the size of batches.
    other = Recognizer(tiny_variables()[0], tiny_metadata(temperature=5.0))
    assert find_temperature(other, [source], decoder, 32) == pytest.approx(found, rel=1e-3)
    other.temperature = found
    before, after = (
        next(evaluate_source(r, source, decoder=decoder).to_json()) for r in (recognizer, other)
    )
    assert after["accuracy"] == before["accuracy"]
    if decoder.name == "greedy":
        assert after["calibration_error"] < before["calibration_error"]


def test_with_views_the_temperature_is_that_of_the_most_probable_one(
    recognizer, tmp_path, monkeypatch
):
    monkeypatch.setattr("crnn_jax.reading.evaluator.AT_ONCE", 50)
    source = make_source(tmp_path, recognizer, blocks(80), views=True)
    reader = Recognizer(tiny_variables()[0], tiny_metadata(temperature=5.0, views=True))
    assert find_temperature(reader, [source]) == pytest.approx(0.4, rel=0.3)
    reader.views = False  # the labels are of other readings
    assert find_temperature(reader, [source]) > 0.6


def test_narrow_images_are_read_as_the_recognizer_reads_them(recognizer, tmp_path, monkeypatch):
    monkeypatch.setattr("crnn_jax.reading.evaluator.AT_ONCE", 3)
    images = noise_pictures(12, seed=2)
    source = make_source(tmp_path, recognizer, images, views=False)
    plain = evaluate_source(recognizer, source)
    reader = Recognizer(tiny_variables()[0], tiny_metadata(views=True))
    result = evaluate_source(reader, source, 4)
    readings = reader.read(images)
    assert len({reading.angle for reading in readings}) > 1
    assert [row.id for row in result.rows] == list(range(len(images) + 1))
    assert result.rows[-1].reason == plain.rows[-1].reason == "not an image"
    for row, reading in zip(result.rows, readings, strict=False):
        assert row.text == reading.text
        assert row.confidence == pytest.approx(reading.confidence, rel=1e-3)
    (sums,), (before,) = result.sets.values(), plain.sets.values()
    assert sums.reasons == before.reasons
    assert sums.metrics()["count"] == len(images) + 1
    assert sums.metrics()["accuracy"] == sum(row.right for row in result.rows) / len(result.rows)
    assert [row.text for row in result.rows] != [row.text for row in plain.rows]
    assert result.aspects == plain.aspects
