import numpy as np
import pytest
from PIL import Image

from crnn_jax.reading.decoder import Decoder
from crnn_jax.reading.recognizer import Recognizer
from crnn_jax.reading.report import write_evaluation_report
from crnn_jax.scoring.result import EvaluationResult, Row
from tests.testdata.tiny_model import noise_pictures, write_tiny_model


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory):
    return Recognizer.load(write_tiny_model(tmp_path_factory.mktemp("m") / "tiny.safetensors"))


def cards(folder, recognizer, *rows):
    result = EvaluationResult()
    for i, (path, label, text) in enumerate(rows):
        result.add(Row(i, str(path), "set", label, text, 0.5))
    with open(write_evaluation_report(str(folder), recognizer, Decoder(), result, {})) as stream:
        return stream.read().split("<article")[1:]


def test_spans_of_what_was_read_and_of_nothing_else(recognizer, tmp_path):
    for i, picture in enumerate(noise_pictures(2)):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    text = recognizer.read(tmp_path / "0.png")[0].text
    same, changed, gone = cards(
        tmp_path,
        recognizer,
        (tmp_path / "0.png", text + "x", text),
        (tmp_path / "1.png", text + "x", text),  # another picture by now
        (tmp_path / "none.png", text + "x", text),
    )
    assert same.count('class="span"') == len(text) > 0
    assert changed.count('class="span"') == gone.count('class="span"') == 0
    assert changed.count("<image") == 1
    assert "no picture" in gone


def test_a_whole_photo_is_shown_without_a_warning(recognizer, tmp_path):
    Image.fromarray(np.zeros((1000, 1100), np.uint8)).save(tmp_path / "photo.png")
    (card,) = cards(tmp_path, recognizer, (tmp_path / "photo.png", "a", "b"))
    assert card.count("<image") == 1
