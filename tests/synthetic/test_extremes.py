"""Whatever a style file may say is drawn."""

import dataclasses
import json

import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.synthetic.styles import LARGEST, LIMITS, STYLES, Style, get_style

KEYS = [field.name for field in dataclasses.fields(Style)]


# what has to happen to every word for a key to count
EFFECTS = {
    "wide_tracking": "wide_tracking_share",
    "bounce": "bounce_share",
    "slant": "slant_share",
    "curve": "curve_share",
    "strong_rotation": "strong_rotation_share",
    **dict.fromkeys(("yaw", "pitch", "camera"), "perspective_share"),
    "loose_margin": "loose_share",
    "tight_margin": "tight_share",
    "border": "border_share",
    "shadow_offset": "shadow_share",
    "texture": "texture_share",
    "light": "light_share",
    "low_resolution": "low_resolution_share",
    "blur_pixels": "blur_share",
    "motion_pixels": "motion_share",
    "noise": "noise_share",
    "jpeg_quality": "jpeg_share",
}


def extremes(key):
    """The least and the largest values that a style file may give a key."""
    known = getattr(STYLES["scene"], key)
    if isinstance(known, bool):
        return [not known]
    if isinstance(known, dict):
        return [{name: 1} for name in known]
    least, most = (0, 1) if key.endswith("_share") else LIMITS.get(key, (0, int(LARGEST)))
    if key == "length_weights":
        return [[most], [least] * 20 + [most]]
    if isinstance(known, tuple):
        return [[least, least], [most, most], [least, most]]
    return [least, most]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.filterwarnings("error")
def test_extremes_are_drawn(make_source, tmp_path, key):
    file = tmp_path / "style.json"
    share = {EFFECTS[key]: 1} if key in EFFECTS else {}
    for value in extremes(key):
        file.write_text(json.dumps({"easy_share": 0} | share | {key: value}))
        for picture in make_source(style=str(file)).read(range(3)):
            assert picture.size


@pytest.mark.parametrize("key", LIMITS)
def test_what_lies_beyond_is_told(tmp_path, key):
    file = tmp_path / "style.json"
    pair = isinstance(getattr(STYLES["scene"], key), tuple)
    least, most = LIMITS[key]
    for beyond in (least - 1, most + 1):
        file.write_text(json.dumps({key: [beyond, beyond] if pair else beyond}))
        with pytest.raises(UserError, match=f"{key} should look like"):
            get_style(str(file))
