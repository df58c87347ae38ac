import copy
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.images import UnreadableImage
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.decoding.alignment import FIRST_CENTRE
from crnn_jax.reading.pictures import (
    MAX_COLUMNS,
    MAX_ROWS,
    MAX_STRETCH,
    padded_width,
    plan_batches,
)
from crnn_jax.reading.recognizer import Character, Reading, Recognizer, Word
from tests.testdata.tiny_model import (
    CHARSET,
    noise_pictures,
    tiny_metadata,
    tiny_variables,
    write_tiny_model,
)


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory):
    return Recognizer.load(write_tiny_model(tmp_path_factory.mktemp("model") / "m.safetensors"))


@pytest.fixture(scope="module")
def pictures():
    return noise_pictures(12, seed=1)


@pytest.fixture(scope="module")
def readings(recognizer, pictures):
    return recognizer.read(pictures)


def assert_same(a: Reading, b: Reading):
    assert a.text == b.text
    assert math.log(a.confidence) == pytest.approx(math.log(b.confidence), abs=1e-4)
    for x, y in zip(a.characters, b.characters, strict=True):
        assert (x.text, x.x0, x.x1) == (y.text, y.x0, y.x1)
        assert x.confidence == pytest.approx(y.confidence, abs=1e-4)


def test_the_company_plays_no_part(recognizer, pictures, readings):
    assert len({reading.text for reading in readings}) == len(readings)
    order = np.random.default_rng(0).permutation(len(pictures))
    for i, reading in zip(order, recognizer.read([pictures[i] for i in order]), strict=True):
        assert_same(reading, readings[i])
    assert_same(recognizer.read(pictures[0])[0], readings[0])
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


def test_characters_cover_the_picture_from_left_to_right(pictures, readings):
    for picture, reading in zip(pictures, readings, strict=True):
        assert "".join(c.text for c in reading.characters) == reading.text
        edges = [x for c in reading.characters for x in (c.x0, c.x1)]
        assert edges == sorted(edges)
        assert edges[0] >= 0
        assert edges[-1] <= picture.shape[1]
        assert all(0 < c.confidence <= 1 for c in reading.characters)


def test_temperature_changes_confidence_but_no_text(pictures, readings):
    # What was trained in bfloat16 is read in float32.
    model = tiny_metadata()["model"] | {"dtype": "bfloat16"}
    cool = Recognizer(tiny_variables()[0], tiny_metadata(temperature=3.0, model=model))
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


def test_a_bad_picture_is_named_or_returned(recognizer, pictures, tmp_path):
    (bad := tmp_path / "bad.png").write_bytes(b"no picture")
    images = [pictures[0], bad, pictures[1]]
    with pytest.raises(UserError, match=r"^image 1: .*bad.png: not an image$"):
        recognizer.read(images)
    first, error, second = recognizer.read(images, errors="return")
    assert isinstance(error, UnreadableImage)
    assert_same(first, recognizer.read(pictures[0])[0])
    assert_same(second, recognizer.read(pictures[1])[0])


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
    pictures = noise_pictures(4)[2:]
    readings = reader.read(pictures)
    for picture, reading in zip(pictures, readings, strict=True):
        assert_same(reader.read(picture)[0], reading)
    # Its frames lie 4 pixels of the resized picture further left than those of keras.
    monkeypatch.setitem(FIRST_CENTRE, "torch", FIRST_CENTRE["keras"])
    picture, reading = max(zip(pictures, readings, strict=True), key=lambda p: len(p[1].text))
    moved = reader.read(picture)[0]
    shift = 4 * picture.shape[1] / reader.preprocessing.target_width(*picture.shape)
    assert moved.characters[0].x1 - reading.characters[0].x1 == pytest.approx(shift)


def test_scores_that_are_no_numbers_are_told():
    variables = copy.deepcopy(tiny_variables()[0])
    for layer in ("conv1", "conv2", "conv3", "conv4"):  # finite, but not what they give
        kernel = variables["params"][layer]["kernel"]
        kernel[:] = np.random.default_rng(0).choice([-3e38, 0, 3e38], kernel.shape)
    reader = Recognizer(variables, tiny_metadata(), "some.file")
    for decoder in ("greedy", "beam"):
        with pytest.raises(UserError, match=r"^some\.file: its scores are not numbers"):
            reader.read(noise_pictures(1), decoder)


@given(st.lists(st.integers(1, 5000), max_size=300))
def test_every_image_stands_in_one_batch_that_holds_it(widths):
    plans = plan_batches(widths)
    assert sorted(i for plan in plans for i in plan.indices) == list(range(len(widths)))
    for plan in plans:
        inside = [widths[i] for i in plan.indices]
        assert max(inside) <= plan.width
        assert max(inside) <= MAX_STRETCH * min(inside)
        assert len(inside) <= plan.rows < 2 * len(inside)
        assert plan.rows & (plan.rows - 1) == 0
        assert plan.rows <= MAX_ROWS
        assert plan.rows == 1 or plan.rows * plan.width <= MAX_COLUMNS


@given(st.integers(1, 100_000))
def test_widths_have_few_steps(width):
    padded = padded_width(width)
    assert width <= padded
    assert padded % 32 == 0
    assert padded - width < max(32, width / 4)


def test_100_shapes_are_compiled_at_most():
    widths = {padded_width(w) for w in range(1, 1025)}
    assert len(widths) == 16
    assert sum(min(MAX_ROWS, MAX_COLUMNS // width).bit_length() for width in widths) <= 100


@pytest.mark.parametrize("width", [100, 32])
def test_a_fixed_width_is_not_rounded(width):
    assert {plan.width for plan in plan_batches([width] * 70, width)} == {width}


def test_words_stand_between_spaces():
    def character(text, confidence, x0):
        return Character(text, confidence, x0, x0 + 5.0)

    places = enumerate([("a", 0.9), ("b", 0.7), (" ", 0.2), ("c", 0.8), (" ", 0.9)])
    characters = tuple(character(text, sure, 10.0 * i) for i, (text, sure) in places)
    reading = Reading("ab c ", 0.5, characters)
    assert reading.words == (Word("ab", 0.7, 0.0, 15.0), Word("c", 0.8, 30.0, 35.0))
    assert [word["text"] for word in reading.to_json()["words"]] == ["ab", "c"]
    assert Reading("", 0.9).words == ()
