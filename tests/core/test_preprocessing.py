import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing


def noise(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


sides = st.integers(1, 3000)


@given(sides, sides)
def test_free_width_keeps_the_aspect_within_bounds(height, width):
    rule = Preprocessing(min_width=32, max_width=256)
    expected = min(max(math.floor(width * 32 / height + 0.5), 32), 256)
    assert rule.target_width(height, width) == expected
    many = rule.target_width(np.array([height, 7], np.int32), np.array([width, 70], np.int32))
    assert many.tolist() == [expected, 256]


@pytest.mark.parametrize(("rounding", "expected"), [("round", 51), ("floor", 50)])
def test_rounding(rounding, expected):
    assert Preprocessing(rounding=rounding).target_width(64, 101) == expected  # 50.5


def test_fixed_width_stretches_and_squeezes():
    rule = Preprocessing(width=100)
    assert rule.target_width(10, 1000) == 100
    assert rule.target_width(np.array([10, 9]), np.array([1, 9])).tolist() == [100, 100]
    assert rule.resize(noise(10, 1000)).shape == (32, 100, 1)


@pytest.mark.parametrize("shape", [(48, 100), (32, 64), (1, 1), (200, 3), (2, 5000)])
@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_is_pillows_bilinear(shape, channels):
    rule = Preprocessing(channels=channels, max_width=300)
    image = noise(*shape)
    resized = rule.resize(image)
    width = rule.target_width(*shape)
    mode = "L" if channels == 1 else "RGB"
    expected = Image.fromarray(image).convert(mode).resize((width, 32), Image.Resampling.BILINEAR)
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(resized, np.asarray(expected).reshape(32, width, channels))


def test_without_antialias_only_neighbours_count():
    ramp = np.arange(64, dtype=np.uint8)[None, :, None].repeat(32, 0)
    half = Preprocessing(antialias=False, width=16).resize(ramp)
    # Output pixel i lies at 4 i + 1.5 of the source: half way between two neighbours, rounded up.
    np.testing.assert_array_equal(half[0, :, 0], 4 * np.arange(16) + 2)
    np.testing.assert_array_equal(Preprocessing(antialias=False).resize(ramp), ramp)


@pytest.mark.parametrize(
    "metadata",
    [
        {"channels": 2},
        {"max_width": 31},
        {"filter": "cubic"},
        {"rounding": "ceil"},
        {"scale": 0.0},
        {"mean": math.nan},
        {"height": "32"},
        {"gamma": 2},
    ],
)
def test_values_that_make_no_sense_are_told_by_their_key(metadata):
    with pytest.raises(UserError, match=f"preprocessing.*{next(iter(metadata))}"):
        Preprocessing.from_metadata(metadata)


def test_metadata_round_trip():
    rule = Preprocessing(channels=3, width=100, antialias=False, rounding="floor")
    assert Preprocessing.from_metadata(rule.to_metadata()) == rule


@pytest.mark.parametrize("array", [np.zeros((32, 32, 1)), np.zeros((32, 32), np.uint8)])
def test_other_arrays_are_refused(array):
    with pytest.raises(ValueError, match="want uint8"):
        Preprocessing().resize(array)
