import numpy as np
import pytest
import tensorflow as tf

from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.exporting import tf_resize
from tests.testdata.tiny_model import noise_pictures

RULES = [
    {},
    {"min_width": 90, "max_width": 120},
    {"width": 100},
    {"rounding": "floor"},
    {"rounding": "ceil"},
    {"height": 48, "width": 21},
    *({"filter": name} for name in ("nearest", "box", "hamming", "bicubic", "lanczos")),
    {"antialias": False},
    {"antialias": False, "filter": "nearest", "width": 77},
]


def pictures(channels):
    random = np.random.default_rng(7)
    small = [
        random.integers(0, 256, (h, w), np.uint8) for h, w in ((1, 1), (3, 2), (32, 60), (500, 4))
    ]
    grey = [*noise_pictures(9), *small, random.integers(0, 256, (70, 900), np.uint8)]
    if channels == 1:
        return [picture[..., None] for picture in grey]
    return [np.stack([p, p[::-1], 255 - p], axis=-1) for p in grey]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", RULES, ids=str)
def test_the_same_levels_as_pillow(options, channels):
    rule = Preprocessing(channels=channels, **options)
    image = tf.TensorSpec([None, None, channels], tf.uint8)
    resize = tf.function(lambda x: tf_resize.resize(x, rule), input_signature=[image])
    for picture in pictures(channels):
        want = rule.resize(picture)
        got = resize(picture).numpy()
        assert got.shape == want.shape
        # Sampling without antialiasing rounds once, and two orders of adding may fall on two
        # sides of a half.
        assert np.abs(got.astype(int) - want).max() <= (0 if rule.antialias else 1)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(4, 100_000), (100_000, 4)], ids=str)
def test_a_very_long_picture_takes_little_memory(size, antialias, monkeypatch):
    """A file of some kB may hold one: all weights in one matrix would take gigabytes."""
    weights, held = tf_resize._weights, []

    def counted(*given):
        first, matrix = weights(*given)
        held.append(int(tf.size(matrix)))
        return first, matrix

    monkeypatch.setattr(tf_resize, "_weights", counted)
    rule = Preprocessing(antialias=antialias)
    picture = np.random.default_rng(1).integers(0, 256, (*size, 1), np.uint8)
    got = tf_resize.resize(tf.constant(picture), rule).numpy()
    assert (got == rule.resize(picture)).all()
    assert 0 < max(held) <= tf_resize.MOST_WEIGHTS
