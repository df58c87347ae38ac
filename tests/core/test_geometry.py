import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.core import geometry
from crnn_jax.core.errors import UserError


@pytest.mark.parametrize("width", [*range(4, 70), 100, 1024, 10_000])
def test_frames_by_the_closed_forms(width):
    assert geometry.num_frames(width, "keras") == math.ceil(width / 4) - 1
    assert geometry.num_frames(width, "torch") == (width // 2) // 2 + 1


@pytest.mark.parametrize("name", geometry.GEOMETRIES)
def test_nothing_stays_nothing_in_every_layer(name):
    assert set(geometry.layer_widths(0, name).values()) == {0}
    frames = [geometry.num_frames(width, name) for width in range(50)]
    assert min(frames) == 0
    smallest = geometry.min_image_width(name)
    assert frames[smallest] > 0
    assert set(frames[:smallest]) == {0}


def test_the_smallest_widths():
    assert geometry.min_image_width("keras") == 5
    assert geometry.min_image_width("torch") == 4
    assert geometry.width_for_frames(24, "keras") == 97


@pytest.mark.parametrize("name", geometry.GEOMETRIES)
def test_arrays_and_ints_agree(name):
    widths = np.arange(200, dtype=np.int32)
    frames = geometry.num_frames(widths, name)
    assert frames.dtype == np.int32
    assert frames.tolist() == [geometry.num_frames(int(w), name) for w in widths]


def test_layers_of_a_100_px_picture():
    widths = geometry.layer_widths(101, "keras")
    assert [widths[name] for name in ("pool1", "pool2", "pool4", "conv7")] == [51, 26, 26, 25]
    widths = geometry.layer_widths(101, "torch")
    names = ("pool1", "pool2", "pool3", "pool4", "conv7")
    assert [widths[name] for name in names] == [50, 25, 26, 27, 26]


def test_an_unknown_geometry():
    with pytest.raises(UserError, match=r"keras \| torch"):
        geometry.num_frames(100, "caffe")


def frames_by_counting(label):
    return len(label) + sum(a == b for a, b in itertools.pairwise(label))


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=8))
def test_frames_needed_by_labels(labels):
    flat = np.array([i for label in labels for i in label], np.uint16)
    offsets = np.cumsum([0, *map(len, labels)])
    needed = geometry.frames_needed_flat(flat, offsets)
    assert needed.dtype == np.int32
    assert needed.tolist() == [frames_by_counting(label) for label in labels]
    assert needed.tolist() == [geometry.frames_needed(label) for label in labels]
