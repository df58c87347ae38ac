import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.core import geometry
from crnn_jax.core.errors import UserError


@pytest.mark.parametrize(
    ("name", "closed_form", "smallest"),
    [
        ("keras", lambda w: math.ceil(w / 4) - 1, 5),
        ("torch", lambda w: w // 2 // 2 + 1, 4),
        ("fine", lambda w: math.ceil(w / 4) - 1, 5),
    ],
)
def test_frames_by_the_closed_forms(name, closed_form, smallest):
    widths = np.array([*range(4, 70), 100, 1024, 10_000], np.int32)
    frames = geometry.num_frames(widths, name)
    assert frames.dtype == np.int32
    assert frames.tolist() == [closed_form(w) for w in widths.tolist()]
    assert frames.tolist() == [geometry.num_frames(w, name) for w in widths.tolist()]
    assert set(geometry.layer_widths(0, name).values()) == {0}  # nothing stays nothing
    assert geometry.min_image_width(name) == smallest
    assert [geometry.num_frames(w, name) for w in range(smallest)] == [0] * smallest


def test_an_unknown_geometry():
    with pytest.raises(UserError, match=r"keras \| torch"):
        geometry.num_frames(100, "caffe")


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=8))
def test_frames_needed_by_labels(labels):
    flat = np.array([i for label in labels for i in label], np.uint16)
    needed = geometry.frames_needed_flat(flat, np.cumsum([0, *map(len, labels)]))
    assert needed.dtype == np.int32
    counted = [len(one) + sum(a == b for a, b in itertools.pairwise(one)) for one in labels]
    assert needed.tolist() == counted
