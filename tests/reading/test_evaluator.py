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
from tests.testdata.tiny_model import tiny_metadata, tiny_variables


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer(tiny_variables()[0], tiny_metadata())


@pytest.fixture(scope="module")
def source(tmp_path_factory, recognizer):
    """Labels drawn so that a reading is right as often as confidence at temperature 0.4 says."""
    folder = tmp_path_factory.mktemp("data")
    levels = np.random.default_rng(8).integers(0, 256, (200, 4, 8), np.uint8)
    images = [*np.kron(levels, np.ones((1, 8, 8), np.uint8))]  # of one size: one compilation
    judge = Recognizer(tiny_variables()[0], tiny_metadata(temperature=0.4))
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
