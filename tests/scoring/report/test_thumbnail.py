import base64
import io

import numpy as np
import pytest
from PIL import Image

from crnn_jax.scoring.report.thumbnail import HEIGHT, WIDTH, thumbnail


def decoded(small):
    return Image.open(io.BytesIO(base64.b64decode(small.uri.partition(",")[2])))


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((100, 32), (200, HEIGHT)),  # small ones are drawn larger, not stored larger
        ((1000, 200), (320, HEIGHT)),
        ((3000, 60), (WIDTH, 14)),
        ((50, 400), (16, 128)),
        ((5000, 1), (WIDTH, 1)),
    ],
)
def test_sizes(tmp_path, size, shown):
    Image.new("RGB", size, (200, 30, 30)).save(tmp_path / "a.png")
    small = thumbnail(str(tmp_path / "a.png"))
    assert (small.width, small.height) == shown
    assert small.given_width == size[0]
    stored = decoded(small)
    assert stored.size == (shown if shown[0] < size[0] else size)
    assert stored.mode == "RGB"


def test_grey_pictures_have_no_colours(tmp_path):
    grey = np.random.default_rng(0).integers(0, 255, (32, 100), np.uint8)
    Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "grey.png")
    assert decoded(thumbnail(str(tmp_path / "grey.png"))).mode == "L"


def test_no_picture(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert thumbnail(str(tmp_path / "broken.png")) is None
    assert thumbnail(str(tmp_path / "none.png")) is None
