import copy
import io
import math
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.images import UnreadableImage
from crnn_jax.core.model_file import load_model
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.decoding.alignment import FIRST_CENTRE
from crnn_jax.reading.decoder import Decoder
from crnn_jax.reading.recognizer import Recognizer
from crnn_jax.reading.result import Reading
from tests.testdata.tiny_model import (
    CHARSET,
    noise_pictures,
    tiny_metadata,
    tiny_variables,
    write_tiny_model,
)

LOW = {"dtype": "bfloat16"}


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory):
    return Recognizer.load(write_tiny_model(tmp_path_factory.mktemp("model") / "m.safetensors"))


@pytest.fixture(scope="module")
def pictures():
    return noise_pictures(12)


@pytest.fixture(scope="module")
def readings(recognizer, pictures):
    return recognizer.read(pictures)


def assert_same(a: Reading, b: Reading):
    assert a.text == b.text
    assert math.log(a.confidence) == pytest.approx(math.log(b.confidence), abs=1e-4)
    for x, y in zip(a.characters, b.characters, strict=True):
        assert (x.text, x.x0, x.x1) == (y.text, y.x0, y.x1)
        assert x.confidence == pytest.approx(y.confidence, abs=1e-4)


def test_readings_are_worth_comparing(readings):
    assert len({reading.text for reading in readings}) == len(readings)
    assert sum(len(reading.text) for reading in readings) > 50


def test_alone_as_in_a_batch(recognizer, pictures, readings):
    for picture, reading in zip(pictures[:4], readings[:4], strict=True):
        assert_same(recognizer.read(picture)[0], reading)


def test_in_any_order(recognizer, pictures, readings):
    order = np.random.default_rng(0).permutation(len(pictures))
    for i, reading in zip(order, recognizer.read([pictures[i] for i in order]), strict=True):
        assert_same(reading, readings[i])


def test_beside_a_much_wider_picture(recognizer, pictures, readings):
    wide = noise_pictures(1, seed=5)[0].repeat(3, axis=1)
    assert_same(recognizer.read([wide, pictures[0]])[1], readings[0])


def test_many_widths_share_few_programs(tmp_path):
    recognizer = Recognizer.load(write_tiny_model(tmp_path / "m.safetensors"))
    widths = np.random.default_rng(0).permutation(np.arange(32, 129).repeat(3))
    recognizer.read([np.full((32, w), 9, np.uint8) for w in widths])
    assert len(set(widths)) == 97
    assert recognizer._read._cache_size() <= 6  # four steps of width, a last batch of fewer rows
    compiled = recognizer._read._cache_size()
    recognizer.read([np.full((32, w), 9, np.uint8) for w in widths[::-1]])
    assert recognizer._read._cache_size() == compiled


def test_a_picture_in_every_form(recognizer, pictures, tmp_path):
    picture = Image.fromarray(pictures[0])
    picture.save(path := tmp_path / "a.png")
    encoded = io.BytesIO()
    picture.save(encoded, "png")
    forms = [path, str(path), encoded.getvalue(), picture, pictures[0], pictures[0][..., None]]
    together = recognizer.read(forms)
    assert {reading.text for reading in together} == {together[0].text}
    for form in forms:
        assert recognizer.read(form)[0].text == together[0].text


def test_nothing_to_read(recognizer):
    assert recognizer.read([]) == []


def test_confidence_is_that_of_the_text(recognizer, pictures):
    # By definition, from the logits: the sum over all alignments, here by an own plain recursion.
    resized = recognizer.preprocessing.resize(pictures[0][..., None])
    logits = recognizer.logits(resized[None])[0].astype(float)
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    reading = recognizer.read(pictures[0])[0]
    ids, _ = CHARSET.encode(reading.text)
    states = [CHARSET.blank_id] + [s for i in ids for s in (int(i), CHARSET.blank_id)]
    alpha = {0: 1.0}
    for frame in np.exp(log_probs):
        after = {}
        for s, p in alpha.items():
            for to in (s, s + 1, s + 2):
                if to >= len(states):
                    continue
                # A blank, or the blank between two equal characters, cannot be left out.
                if to == s + 2 and (to % 2 == 0 or states[to] == states[s]):
                    continue
                after[to] = after.get(to, 0.0) + p * frame[states[to]]
        alpha = after
    want = alpha.get(len(states) - 1, 0) + alpha.get(len(states) - 2, 0)
    assert math.log(reading.confidence) == pytest.approx(math.log(want), abs=1e-3)


def test_characters_cover_the_picture_from_left_to_right(pictures, readings):
    for picture, reading in zip(pictures, readings, strict=True):
        assert "".join(c.text for c in reading.characters) == reading.text
        edges = [x for c in reading.characters for x in (c.x0, c.x1)]
        assert edges == sorted(edges)
        assert edges[0] >= 0
        assert edges[-1] <= picture.shape[1]
        assert all(0 < c.confidence <= 1 for c in reading.characters)


def test_temperature_changes_confidence_but_no_text(recognizer, pictures, readings):
    cool = Recognizer(tiny_variables()[0], tiny_metadata(temperature=3.0))
    for reading, cooler in zip(readings, cool.read(pictures), strict=True):
        assert cooler.text == reading.text
        assert cooler.confidence < reading.confidence


def test_unknown_is_emitted_only_where_it_was_trained():
    variables, _ = tiny_variables()
    picture = noise_pictures(1)[0]
    often = Recognizer(variables, tiny_metadata()).read(picture)[0].text[0]
    symbols = tuple("<UNK>" if s == often else s for s in CHARSET.symbols)
    table = Charset(symbols, CHARSET.blank_id, symbols.index("<UNK>"))
    for emit in (True, False):
        reader = Recognizer(variables, tiny_metadata(table, emit_unknown=emit))
        reading = reader.read(picture)[0]
        assert ("\N{REPLACEMENT CHARACTER}" in reading.text) == emit
        assert reading.text


def test_what_was_trained_in_bfloat16_is_read_in_float32(pictures, readings):
    metadata = tiny_metadata()
    low = Recognizer(tiny_variables()[0], metadata | {"model": metadata["model"] | LOW})
    assert [r.confidence for r in low.read(pictures)] == [r.confidence for r in readings]


def test_logits_are_raw(recognizer):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 60, 1), dtype=np.uint8)
    logits = recognizer.logits(images)
    assert logits.shape == (2, 14, 37)
    assert logits.dtype == np.float32
    assert abs(np.exp(logits).sum(axis=-1) - 1).min() > 0.1
    with pytest.raises(ValueError, match=r"want uint8 \[b 32 w 1\], got float32"):
        recognizer.logits(images.astype(np.float32))


def test_a_bad_picture_is_named_or_returned(recognizer, pictures, tmp_path):
    (bad := tmp_path / "bad.png").write_bytes(b"no picture")
    images = [pictures[0], bad, pictures[1]]
    with pytest.raises(UserError, match=r"^picture 1: .*bad.png: not a picture$"):
        recognizer.read(images)
    first, error, second = recognizer.read(images, errors="return")
    assert isinstance(error, UnreadableImage)
    assert_same(first, recognizer.read(pictures[0])[0])
    assert_same(second, recognizer.read(pictures[1])[0])


def test_a_whole_photo_gets_a_warning(recognizer, pictures):
    with pytest.warns(UserWarning, match="4032 x 3024 pixels look like a whole photo"):
        recognizer.read(np.zeros((3024, 4032), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recognizer.read(np.zeros((300, 4032), np.uint8))


def test_an_unknown_decoder_is_told(recognizer):
    with pytest.raises(UserError, match="greedy, beam, both"):
        recognizer.read([], decoder="magic")
    with pytest.raises(TypeError, match="width"):
        recognizer.read([], decoder="beam", width=3)
    with pytest.raises(ValueError, match="takes no beam_width"):
        recognizer.read([], Decoder("beam"), beam_width=3)


def test_a_fixed_width_model(tmp_path):
    fixed = Preprocessing(width=100).to_metadata()
    reader = Recognizer.load(write_tiny_model(tmp_path / "m", preprocessing=fixed))
    pictures = noise_pictures(3)
    stretched = [reader.preprocessing.resize(p[..., None]) for p in pictures]
    for picture, a, b in zip(pictures, reader.read(pictures), reader.read(stretched), strict=True):
        assert a.text == b.text
        # Spans are in pixels of the picture as given.
        want = [c.x1 * picture.shape[1] / 100 for c in b.characters]
        assert [c.x1 for c in a.characters] == pytest.approx(want)


def test_the_torch_geometry(monkeypatch):
    variables, _ = tiny_variables(37, 1, "torch")
    reader = Recognizer(variables, tiny_metadata(geometry="torch"))
    pictures = noise_pictures(5)
    readings = reader.read(pictures)
    for picture, reading in zip(pictures, readings, strict=True):
        assert_same(reader.read(picture)[0], reading)
    # Its frames lie 4 pixels of the resized picture further left than those of keras.
    monkeypatch.setitem(FIRST_CENTRE, "torch", FIRST_CENTRE["keras"])
    picture, reading = max(zip(pictures, readings, strict=True), key=lambda p: len(p[1].text))
    moved = reader.read(picture)[0]
    shift = 4 * picture.shape[1] / reader.preprocessing.target_width(*picture.shape)
    assert moved.characters[0].x1 - reading.characters[0].x1 == pytest.approx(shift)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": {"num_classes": 12}}, "12 classes and a table of 37"),
        ({"model": {"shape": 3}}, "unknown keys"),
        ({"model": 3}, "metadata"),
        ({"preprocessing": {"height": -1}}, "height"),
        ({"temperature": "warm"}, "temperature='warm'"),
        ({"charset": ["a", "a", "<BLK>"], "blank_id": 2}, "twice"),
    ],
)
def test_metadata_that_make_no_sense_are_told_with_the_files_name(changes, told):
    with pytest.raises(UserError, match=rf"^some\.file: .*{told}"):
        Recognizer(tiny_variables()[0], tiny_metadata(**changes), "some.file")


def test_weights_of_another_network_are_told():
    variables, _ = tiny_variables(12)
    with pytest.raises(UserError, match=r"^some\.file: its weights do not fit its network: "):
        Recognizer(variables, tiny_metadata(), "some.file")
    del (params := dict(variables["params"]))["conv2"]
    with pytest.raises(UserError, match=r"do not fit.*params/conv2/kernel is missing"):
        Recognizer({**variables, "params": params}, tiny_metadata(), "some.file")


def test_scores_that_are_no_numbers_are_told():
    variables = copy.deepcopy(tiny_variables()[0])
    for layer in ("conv1", "conv2", "conv3", "conv4"):  # finite, but not what they give
        kernel = variables["params"][layer]["kernel"]
        kernel[:] = np.random.default_rng(0).choice([-3e38, 0, 3e38], kernel.shape)
    reader = Recognizer(variables, tiny_metadata(), "some.file")
    for decoder in ("greedy", "beam"):
        with pytest.raises(UserError, match=r"^some\.file: its scores are not numbers"):
            reader.read(noise_pictures(1), decoder)


def test_load_tells_where_no_model_ships(monkeypatch, tmp_path):
    monkeypatch.setattr("crnn_jax.reading.recognizer.SHIPPED", str(tmp_path / "none"))
    with pytest.raises(UserError, match="-m MODEL"):
        Recognizer.load()


def test_reading_imports_nothing_it_does_not_need(tmp_path):
    model = write_tiny_model(tmp_path / "m.safetensors")
    Image.fromarray(noise_pictures(1)[0]).save(tmp_path / "a.png")
    code = (
        "import sys; from crnn_jax.reading.recognizer import Recognizer;"
        "print(Recognizer.load(sys.argv[1]).read(sys.argv[2])[0].text);"
        'print(*{name.split(".")[0] for name in sys.modules})'
    )
    done = subprocess.run(
        [sys.executable, "-c", code, model, str(tmp_path / "a.png")],
        capture_output=True,
        text=True,
        check=True,
        cwd=pathlib.Path(__file__).parents[2],
    )
    text, modules = done.stdout.splitlines()
    assert text == Recognizer(*load_model(model)).read(noise_pictures(1))[0].text
    loaded = set(modules.split())
    assert {"jax", "flax", "PIL"} <= loaded
    assert not loaded & {"optax", "orbax", "numba", "ml_collections", "tensorflow", "keras"}
