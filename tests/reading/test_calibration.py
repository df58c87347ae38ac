import numpy as np
import pytest
from PIL import Image

from crnn_jax.core.errors import UserError
from crnn_jax.core.model_file import load_model, read_safetensors, save_model
from crnn_jax.reading.calibration import TEMPERATURES, calibrate, save_calibrated
from crnn_jax.reading.decoder import Decoder
from crnn_jax.reading.evaluation import evaluate_source, open_annotation
from crnn_jax.reading.recognizer import Recognizer
from tests.testdata.tiny_model import (
    noise_pictures,
    tiny_metadata,
    tiny_variables,
    write_tiny_model,
)


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer(tiny_variables()[0], tiny_metadata())


@pytest.fixture(scope="module")
def annotation(tmp_path_factory, recognizer):
    """Labels drawn so that a reading is right as often as confidence at temperature 3 says."""
    folder = tmp_path_factory.mktemp("data")
    pictures = [p[:, :60] for p in noise_pictures(250, seed=8)]  # narrow: quick, few shapes
    judge = Recognizer(tiny_variables()[0], tiny_metadata(temperature=0.4))
    random = np.random.default_rng(0)
    lines = []
    for i, (picture, reading) in enumerate(zip(pictures, judge.read(pictures), strict=True)):
        Image.fromarray(picture).save(folder / f"{i}.png")
        right = random.random() < reading.confidence
        lines.append(f"{i}.png {reading.text if right else 'wrong'}\n")
    (folder / "broken.png").write_bytes(b"no picture")
    lines.append("broken.png abc\n")
    (folder / "all.txt").write_text("".join(lines))
    return str(folder / "all.txt")


@pytest.mark.parametrize("decoder", [Decoder("greedy"), Decoder("beam", beam_width=4)])
def test_the_temperature_that_made_the_labels_is_found(recognizer, annotation, decoder):
    source = open_annotation(recognizer, annotation)
    found = calibrate(recognizer, [source], decoder)
    assert TEMPERATURES[0] < found < TEMPERATURES[-1]
    # Beam search reads some texts that the labels were not drawn for.
    assert found == pytest.approx(0.4, rel=0.3 if decoder.name == "greedy" else 0.5)
    # The model's own temperature plays no part, nor does the size of batches.
    other = Recognizer(tiny_variables()[0], tiny_metadata(temperature=5.0))
    assert calibrate(other, [source], decoder, 7) == pytest.approx(found, rel=1e-3)
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
    (_, old), (_, new) = load_model(path), load_model(out)
    assert new == {**old, "temperature": 1.5}
    before, after = read_safetensors(path)[0], read_safetensors(out)[0]
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert after[name].dtype == array.dtype
        np.testing.assert_array_equal(after[name], array)


def test_in_place(tmp_path):
    path = write_tiny_model(tmp_path / "m.safetensors")
    save_calibrated(path, path, 2.0)
    assert Recognizer.load(path).temperature == 2.0


def test_no_picture(recognizer, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "all.txt").write_text("broken.png abc\n")
    source = open_annotation(recognizer, str(tmp_path / "all.txt"))
    with pytest.raises(UserError, match="no picture to calibrate on"):
        calibrate(recognizer, [source])
