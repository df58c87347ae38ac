import numpy as np
import pytest
from PIL import Image

from crnn_jax.core.model_file import load_model, save_model
from crnn_jax.reading.decoder import Decoder
from crnn_jax.reading.evaluator import (
    TEMPERATURES,
    Evaluator,
    evaluate_source,
    find_temperature,
    open_annotation,
    save_calibrated,
)
from crnn_jax.reading.recognizer import Recognizer
from crnn_jax.scoring.evaluation import EvaluationResult, Row
from tests.testdata.tiny_model import noise_pictures, tiny_metadata, tiny_variables


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer(tiny_variables()[0], tiny_metadata())


@pytest.fixture(scope="module")
def source(tmp_path_factory, recognizer):
    """Labels drawn so that a reading is right as often as confidence at temperature 0.4 says."""
    folder = tmp_path_factory.mktemp("data")
    images = [p[:, :60] for p in noise_pictures(250, seed=8)]  # narrow: quick, few shapes
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


@pytest.mark.parametrize("decoder", [Decoder("greedy"), Decoder("beam", beam_width=4)])
def test_the_temperature_that_made_the_labels_is_found(recognizer, source, decoder):
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


@pytest.mark.parametrize("half", [False, True])
def test_only_the_temperature_is_another(tmp_path, half):
    path, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_model(path, tiny_variables()[0], tiny_metadata(note="kept"), float16=half)
    save_calibrated(path, out, 1.5)
    assert load_model(out)[1] == load_model(path)[1] | {"temperature": 1.5}
    assert out.stat().st_size == pytest.approx(path.stat().st_size, rel=0.01)
    before = path.read_bytes()
    save_calibrated(path, path, 1.0)  # in place
    assert path.read_bytes() == before


def test_a_report_shows_places_of_what_was_read_and_of_nothing_else(recognizer, tmp_path):
    Image.fromarray(noise_pictures(1)[0]).save(tmp_path / "0.png")
    Image.fromarray(np.zeros((1000, 1100), np.uint8)).save(tmp_path / "1.png")  # no warning
    text = recognizer.read(tmp_path / "0.png")[0].text
    (tmp_path / "all.txt").write_text("".join(f"{i}.png {text}x\n" for i in range(3)))
    source = open_annotation(recognizer, str(tmp_path / "all.txt"))
    result = EvaluationResult()
    for i in range(3):  # the second was another image then, the third is gone
        result.add(Row(i, f"{i}.png", source.name, text + "x", text, 0.5))
    file = Evaluator(recognizer, [source], [Decoder()]).report(str(tmp_path), result, {})
    with open(file) as stream:
        same, changed, gone = stream.read().split("<article")[1:]
    assert same.count('class="span"') == len(text) > 0
    assert changed.count('class="span"') == gone.count('class="span"') == 0
    assert changed.count("<image") == 1
    assert "no image" in gone
