"""Views of images: where their columns lie, when they are read, and which one counts."""

import dataclasses
import math

import numpy as np
import pytest
from PIL import Image

from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.reading.decoder import Decoder
from crnn_jax.reading.recognizer import Recognizer
from crnn_jax.reading.views import (
    ANGLES,
    FRAMES,
    LEAST_ASPECT,
    MORE_HEIGHT,
    MORE_LENGTH,
    SURE,
    View,
    choose,
    views_of,
)
from tests.testdata.tiny_model import noise_pictures, tiny_metadata, tiny_variables

# (height, width): tall, square, wide, and so large that it is reduced.
SIZES = [(60, 24), (50, 40), (40, 40), (32, 64), (33, 80), (700, 900)]


def make_recognizer(**changes):
    return Recognizer(tiny_variables()[0], tiny_metadata(**changes))


@pytest.fixture(scope="module")
def recognizer():
    return make_recognizer(views=True)


@pytest.fixture(scope="module")
def images(recognizer):
    """Narrow ones of which the first reading is not sure."""
    narrow = [x for x in noise_pictures(24, seed=2) if x.shape[1] < LEAST_ASPECT * x.shape[0]]
    plain = recognizer.read(narrow, views=False)
    unsure = [x for x, reading in zip(narrow, plain, strict=True) if reading.confidence < SURE]
    assert len(unsure) >= 8
    return unsure[:8]


@pytest.fixture(scope="module")
def readings(recognizer, images):
    return recognizer.read(images)


@pytest.fixture
def rows(monkeypatch):
    """The widths of all images that are sent to the network."""
    sent = []
    start = Recognizer._start

    def count(self, batch, decoder):
        sent.extend(batch["width"][batch["width"] > 0].tolist())
        return start(self, batch, decoder)

    monkeypatch.setattr(Recognizer, "_start", count)
    return sent


def assert_same(a, b):
    assert (a.text, a.angle, a.greedy, a.decoder) == (b.text, b.angle, b.greedy, b.decoder)
    assert math.log(a.confidence) == pytest.approx(math.log(b.confidence), abs=1e-4)
    spans = [[(c.x0, c.x1) for c in reading.characters] for reading in (a, b)]
    assert spans[0] == spans[1]


def angles(height, width):
    return [view.angle for view in views_of(height, width)]


def test_which_images_have_which_views():
    frames = [0] * len(FRAMES)
    assert angles(32, 80) == angles(10, 1000) == frames
    assert set(angles(32, 79)) == {0, *ANGLES}
    assert angles(49, 40) == [0, *frames]  # what fills it at an angle would be higher than long
    assert angles(50, 40) == [0, *frames, 90, -90]


def test_a_frame_is_cut_and_drawn_to_another_width():
    image = np.repeat(np.arange(100, dtype=np.uint8), 60).reshape(100, 60, 1)  # rows by number
    for view, (cut, wider) in zip(views_of(100, 60)[1:], FRAMES, strict=False):
        pixels = view.render(image)
        assert pixels.shape == (round(100 - 200 * cut), round(60 * wider), 1)
        rows = np.arange(round(100 * cut), round(100 - 100 * cut))
        inside = (rows >= 0) & (rows < 100)
        np.testing.assert_array_equal(pixels[inside, 0, 0], rows[inside])
        assert (pixels[~inside] == 49).all()  # the image's median


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_columns_of_a_view_are_found_again_in_the_image(size, channels):
    """A bright spot in the image, and where it is in the view."""
    height, width = size
    side = max(3, min(size) // 12)
    for view in views_of(height, width):
        found = 0
        for y in np.linspace(0, height - side, 6).astype(int):
            for x in np.linspace(0, width - side, 6).astype(int):
                image = np.zeros((height, width, channels), np.uint8)
                image[y : y + side, x : x + side] = 255
                pixels = view.render(image)
                assert pixels.shape == (view.size[1], view.size[0], channels)
                seen = pixels[..., 0] / 255
                a, b, c, d, e, f = view.to_image
                if seen.sum() * (a * e - b * d) < 0.97 * side**2:  # not wholly inside
                    continue
                found += 1
                u, v = (
                    ((np.arange(n) + 0.5) * seen.sum(axis=axis)).sum() / seen.sum()
                    for axis, n in enumerate(view.size)
                )
                near = max(0.2, 0.03 * side)
                assert a * u + b * v + c == pytest.approx(x + side / 2, abs=near)
                assert d * u + e * v + f == pytest.approx(y + side / 2, abs=near)
                ((x0, x1),) = view.columns(np.array([[u - 0.5, u + 0.5]]))
                assert 0 <= x0 <= x + side / 2 + near
                assert x + side / 2 - near <= x1 <= width
                if abs(view.angle) != 90:
                    # No wider than what one column at this angle can cross.
                    most = abs(a) + abs(b) * view.size[1]
                    assert x1 - x0 <= most + 1e-6
        assert found >= 4, view


def test_quarter_turns_move_pixels_as_they_are():
    image = np.random.default_rng(0).integers(0, 256, (47, 30, 1), np.uint8)
    views = {view.angle: view for view in reversed(views_of(47, 30))}
    np.testing.assert_array_equal(views[90].render(image), np.rot90(image))
    np.testing.assert_array_equal(views[-90].render(image), np.rot90(image, -1))
    assert views[0].render(image) is image
    # A column of the turned image is a row of the image: it lies across all of its columns.
    np.testing.assert_array_equal(views[90].columns(np.array([[3.0, 4.0]])), [[0, 30]])


@pytest.mark.parametrize("angle", ANGLES)
def test_a_word_at_an_angle_comes_out_level(angle):
    """A bar as a word, turned so that its upright box is the image: it fills its own view."""
    # Pillow turns counter-clockwise too: what is to be turned by `angle` lies at -angle.
    bar = Image.new("L", (90, 40), 255).rotate(-angle, Image.Resampling.BILINEAR, expand=True)
    bar = bar.crop(bar.point(lambda level: 255 * (level > 127)).getbbox())
    image = np.asarray(bar)[..., None]
    views = {view.angle: view for view in views_of(*image.shape[:2])}
    assert views[angle].size == pytest.approx((90 * MORE_LENGTH, 40 * MORE_HEIGHT), abs=2)
    assert views[angle].render(image).mean() > 0.87 * 255  # the rest is what is cut out more
    assert views[-angle].render(image).mean() < 0.85 * 255


def candidates(image, rule):
    """Every view of an image as an image, and how the plain and the stretching model read it."""
    wide = dataclasses.replace(rule, min_width=round(LEAST_ASPECT * rule.height)).to_metadata()
    plain, stretched = make_recognizer(), make_recognizer(preprocessing=wide)
    for view in views_of(*image.shape):
        pixels = view.render(image[..., None])
        frame = not view.angle and not view.whole
        readers = (plain,) if frame else (plain, stretched)
        sizes = [r.preprocessing.target_width(*pixels.shape[:2]) for r in readers]
        for reader in readers[: len(set(sizes))]:  # a view is not read twice at one width
            yield view, reader.read(pixels)[0]


def test_the_view_that_is_chosen_is_taken(recognizer, images, readings):
    assert {reading.angle for reading in readings} > {0.0}
    for image, reading in zip(images, readings, strict=True):
        views, found = zip(*candidates(image, recognizer.preprocessing), strict=True)
        place = choose([r.text for r in found], [r.confidence for r in found])
        view, best = views[place], found[place]
        assert (reading.text, reading.angle) == (best.text, view.angle)
        assert reading.confidence == pytest.approx(best.confidence, rel=1e-3)
        spans = np.array([[c.x0, c.x1] for c in best.characters]).reshape(-1, 2)
        found = np.array([[c.x0, c.x1] for c in reading.characters]).reshape(-1, 2)
        np.testing.assert_allclose(found, view.columns(spans), atol=1e-6)
        assert found.min(initial=0) >= 0
        assert found.max(initial=0) <= image.shape[1]
        assert reading.to_json()["angle"] == view.angle


def test_the_company_plays_no_part(recognizer, images, readings, monkeypatch):
    for image, reading in zip(images, readings, strict=True):
        assert_same(recognizer.read(image)[0], reading)
    order = np.random.default_rng(0).permutation(len(images))
    wide = noise_pictures(1, seed=5)[0].repeat(3, axis=1)
    others = recognizer.read([*(images[i] for i in order), wide])
    for i, reading in zip(order, others, strict=False):
        assert_same(reading, readings[i])
    monkeypatch.setattr("crnn_jax.reading.recognizer.AT_ONCE", 3)
    for reading, again in zip(readings, recognizer.read(images), strict=True):
        assert_same(again, reading)


def test_off_unless_the_model_states_it_or_the_caller_asks(images, readings, rows):
    silent, stated = make_recognizer(), make_recognizer(views=True)
    plain = silent.read(images)
    assert len(rows) == len(images)
    assert {reading.angle for reading in plain} == {0.0}
    assert [r.text for r in stated.read(images, views=False)] == [r.text for r in plain]
    assert len(rows) == 2 * len(images)
    for reading, again in zip(readings, silent.read(images, views=True), strict=True):
        assert_same(again, reading)
    assert [r.text for r in readings] != [r.text for r in plain]


def test_sure_images_are_read_once_and_wide_ones_in_their_frames(images, rows):
    narrow, wide = images[0], np.tile(images[0], (1, 9))
    recognizer = make_recognizer(views=True)
    recognizer.read([wide, wide])
    assert len(rows) == 2 + 2 * len(FRAMES)
    rows.clear()
    recognizer.read(narrow)
    views = len(views_of(*narrow.shape))
    assert views < len(rows) <= 2 * views - len(FRAMES)
    rows.clear()
    sure = make_recognizer(views=True, temperature=1e-3)
    assert sure.read(narrow)[0].confidence >= SURE
    assert len(rows) == 1


def test_every_decoder_takes_the_most_probable_view(recognizer, images):
    beams = recognizer.read(images, "beam", top_paths=2)
    plain = recognizer.read(images, "beam", views=False)
    assert {reading.angle for reading in beams} > {0.0}
    assert all(b.confidence >= p.confidence for b, p in zip(beams, plain, strict=True))
    assert all(reading.alternatives for reading in beams)
    both = recognizer.read(images, Decoder("both"))
    for reading, beam in zip(both, beams, strict=True):
        assert reading.greedy is not None
        assert_same(dataclasses.replace(reading, greedy=None), beam)


@pytest.mark.parametrize(
    ("texts", "confidences", "place"),
    [
        ("a", [0.2], 0),
        ("ab", [0.4, 0.5], 1),
        ("ab", [0.4, 0.40001], 0),  # rounding
        ("aba", [0.3, 0.5, 0.3], 0),  # two agree
        ("abaa", [0.2, 0.5, 0.25, 0.2], 1),  # but not three together
        ("abba", [0.1, 0.3, 0.4, 0.5], 2),
    ],
)
def test_two_views_that_agree_outvote_one_that_is_surer(texts, confidences, place):
    assert choose(texts, confidences) == place


def test_of_equal_views_the_plain_one_counts():
    fixed = Preprocessing(width=64).to_metadata()  # nothing is left to stretch
    even = np.full((40, 30), 90, np.uint8)
    reader = make_recognizer(views=True, preprocessing=fixed)
    (reading,) = reader.read(even)
    assert reading.confidence < SURE
    assert reading.angle == 0
    assert_same(reading, reader.read(even, views=False)[0])


def test_unreadable_images_keep_their_place(recognizer, images, readings, tmp_path):
    (bad := tmp_path / "bad.png").write_bytes(b"no picture")
    first, error, second = recognizer.read([images[0], bad, images[1]], errors="return")
    assert "not an image" in str(error)
    assert_same(first, readings[0])
    assert_same(second, readings[1])


def test_a_view_beyond_the_image_is_clipped():
    view = View(0.0, (10, 4), (1.0, 0.0, -3.0, 0.0, 1.0, 0.0), (5, 4))
    np.testing.assert_array_equal(
        view.columns(np.array([[0.0, 4.0], [7.0, 10.0]])), [[0, 1], [4, 5]]
    )
