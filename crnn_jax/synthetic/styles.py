"""The distributions behind every choice, as named styles.

A pair (low, high) is a uniform range; `*_share` is a probability; lengths are in cap heights (the
height of an H) unless a name says pixels or degrees. A style can be changed key by key from a JSON
file: {"base": "scene", "border_share": 0.5}.
"""

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import open_file
from crnn_jax.data.sources import parse_names
from crnn_jax.synthetic.lines import PATTERNS

Range = tuple[float, float]


@dataclass(frozen=True)
class Style:
    """One set of distributions; the defaults are those of 'scene'."""

    # samples in the easy form (see `easy`): many real words are plain, and training starts sooner
    easy_share: float = 0.3

    # --- text: relative shares of the kinds of word
    word_share: float = 0.46  # from the word list, its length drawn from length_weights
    common_share: float = 0.21  # from the built-in list of common and sign words
    invented_share: float = 0.10  # letters that follow each other as in the list
    number_share: float = 0.13  # digits: plain numbers, years, prices, times
    letters_share: float = 0.03  # a few random letters: initials, abbreviations
    random_share: float = 0.07  # any characters of the table, in any case
    letters_length: tuple[int, int] = (1, 4)
    random_length: tuple[int, int] = (1, 8)
    # above 1: words early in their list more often, for lists that begin with the commonest
    early_power: float = 1.0
    # weight of words with 1, 2, 3 ... letters; the last holds for all longer ones
    length_weights: tuple[float, ...] = (1, 4, 10, 13, 13, 13, 12, 10, 8, 6, 4, 3, 2, 1, 0.6, 0.3)
    case_shares: Mapping[str, float] = field(
        default_factory=lambda: {"upper": 0.5, "capital": 0.27, "lower": 0.18, "as_listed": 0.05}
    )
    punctuation_share: float = 0.10  # a word gets a full stop, brackets, an 's ...
    draw_unlabelled: bool = True  # draw characters that the table lacks, and leave them unlabelled
    more_words_share: float = 0.35  # where the table has a space: another word follows

    # --- lines (lines.py), where the table has a space; words in them are not drawn by their length
    line_share: float = 0.0  # of samples that are a line
    line_kinds: Mapping[str, float] = field(
        default_factory=lambda: {"running": 1.0, "title": 0.0, **dict.fromkeys(PATTERNS, 0.0)}
    )
    line_length: tuple[int, int] = (40, 80)  # characters, of running text and titles
    line_power: float = 1.0  # above 1: short lines more often
    line_capitals_share: float = 0.03  # all of it in capitals
    spaced_marks_share: float = 0.0  # of punctuation, with a space before it
    typographic_share: float = 0.7  # quotes and dashes of printers, not those of a keyboard

    # --- letters
    faces: str = ""  # regular expression of the names of font files; others only where these fail
    monospaced_share: float = 0.0  # faces whose letters are all as wide, as on receipts
    ligature_share: float = 0.0  # of texts: fi, fl and ff are one glyph where the face has it
    word_space: Range = (0.33, 0.33)  # between words
    justified_share: float = 0.0  # of lines, which are drawn out to the width of a column
    justified: Range = (0.6, 1.4)  # their space between words
    tracking: Range = (-0.02, 0.10)  # extra space between letters
    wide_tracking_share: float = 0.08
    wide_tracking: Range = (0.15, 0.9)
    small_caps_share: float = 0.06  # of words in capitals: the first letter is larger
    bounce_share: float = 0.03  # letters jump off the line and tilt
    bounce: float = 0.12
    bounce_tilt: float = 6.0  # standard deviation, degrees
    bounce_size: float = 0.0  # standard deviation of the log of each letter's size
    stretch: Range = (-0.28, 0.25)  # log2 of the width of all letters
    bold_share: float = 0.20  # strokes thickened
    thin_share: float = 0.08  # strokes thinned
    heavy_families: float = 0.65  # a family of n faces has weight n to this power
    usual_letters: float = 4.0  # weight of a face: its share of usual letter shapes to this power
    rule_share: float = 0.03  # a line under the word
    dots_share: float = 0.015  # letters of lamps, or of the needles of a printer
    clog_share: float = 0.0  # ink fills the counters of a, e, o
    worn_share: float = 0.0  # ink that is paler in places, to nothing in some
    faint_share: float = 0.0  # points, commas and dashes are hardly printed
    faint: Range = (0.05, 0.6)  # what is left of their ink
    bands_share: float = 0.0  # pale bands across or along the line: a printer's worn head
    binary_share: float = 0.0  # scanned in black and white
    binary: Range = (0.25, 0.7)  # ink from which on it is black: low bleeds, high breaks strokes
    speckle_share: float = 0.0  # specks of dirt

    # --- shape, angles in degrees
    slant_share: float = 0.15
    slant: float = 12.0  # standard deviation of a sheared, sloping word
    curve_share: float = 0.18
    curve: Range = (15.0, 90.0)  # angle between the first and the last letter
    wave_share: float = 0.04
    rotation: float = 2.5  # standard deviation
    strong_rotation_share: float = 0.12
    strong_rotation: float = 11.0
    perspective_share: float = 0.45
    yaw: float = 22.0  # standard deviations of the camera's angles
    pitch: float = 14.0
    camera: Range = (1.2, 4.0)  # distance of the camera in widths of the word

    # --- crop: what lies between the ink and the edge, as a share of the ink's height
    margin: Range = (0.02, 0.30)
    loose_share: float = 0.22
    loose_margin: Range = (0.2, 0.55)
    tight_share: float = 0.16
    tight_margin: Range = (-0.07, 0.04)  # negative: letters are cut
    cut_share: float = 0.0  # the right edge runs through the last letter
    cut: Range = (0.1, 0.45)  # what is missing of its width
    neighbour_share: float = 0.16  # lines above and below, words left and right, cut by the crop

    # --- colours, grey levels 0-255
    contrast: Range = (34.0, 250.0)  # distance of letters and background
    contrast_power: float = 1.0  # above 1: low contrasts more often
    paper_share: float = 0.0  # nearly white background
    light_on_dark_share: float = 0.48
    saturation: float = 0.8  # rgb only: most saturated colour
    border_share: float = 0.14
    border: Range = (0.03, 0.11)  # thickness
    outline_share: float = 0.04  # only the border is drawn
    shadow_share: float = 0.20
    shadow_offset: Range = (0.04, 0.16)
    shadow_blur_share: float = 0.5
    block_share: float = 0.06  # letters with a side: the shadow is drawn out
    fill_gradient_share: float = 0.10
    fill_texture_share: float = 0.15
    letter_tones_share: float = 0.03  # each letter has its own colour
    letter_tones: float = 0.5  # how far apart, as a share of the contrast
    relief_share: float = 0.08  # letters stand out of the surface, half of them in its own colour

    # --- background
    two_tone_share: float = 0.10
    gradient_share: float = 0.35
    texture_share: float = 0.45
    texture: Range = (3.0, 40.0)  # standard deviation of the texture in grey levels
    panel_share: float = 0.06  # a sign's edge runs beside the word

    # --- light, camera and file
    light_share: float = 0.30
    light: Range = (0.1, 0.5)  # how much darker one side is
    glare_share: float = 0.04
    exposure: float = 0.12  # standard deviation of the log of the gain
    low_resolution_share: float = 0.35
    low_resolution: Range = (0.3, 0.85)  # scale at which noise and JPEG happen
    blur_share: float = 0.55
    blur_pixels: Range = (0.3, 1.6)  # of letters 28 pixels high, less of smaller ones
    motion_share: float = 0.10
    motion_pixels: Range = (2.0, 6.0)
    bloom_share: float = 0.04  # letters that shine
    noise_share: float = 0.55
    noise: Range = (1.0, 14.0)
    sharpen_share: float = 0.10
    jpeg_share: float = 0.60
    jpeg_quality: tuple[int, int] = (20, 90)


# what an easy sample keeps of the probability of each effect, and the bounds of its ranges
EASY = 0.25
EASY_LEAST = {"contrast": (80.0, 255.0), "low_resolution": (0.5, 0.9), "jpeg_quality": (45, 95)}
EASY_MOST: dict[str, Any] = {
    "texture": (2.0, 14.0),
    "curve": (15.0, 50.0),
    "light": (0.05, 0.3),
    "noise": (1.0, 6.0),
    "blur_pixels": (0.3, 0.9),
    "rotation": 1.2,
    "exposure": 0.05,
}
# shares that say how an image looks, not how hard it is
_NEUTRAL = ("light_on_dark", "loose", "tight", "bold", "thin", "shadow_blur", "gradient", "jpeg")
POSITIVE = ("blur_pixels", "camera", "curve", "early_power")  # mean nothing at 0 or less


def easy(style: Style) -> Style:
    """The same style with fewer and milder effects; texts stay as they are."""
    changes: dict[str, Any] = {
        name: getattr(style, name) * EASY
        for name in itertools.dropwhile(lambda name: name != "wide_tracking_share", vars(style))
        if name.endswith("_share") and name.removesuffix("_share") not in _NEUTRAL
    }
    for bounds, milder in ((EASY_LEAST, max), (EASY_MOST, min)):
        for name, bound in bounds.items():
            own, pair = getattr(style, name), isinstance(bound, tuple)
            changes[name] = tuple(map(milder, own, bound)) if pair else milder(own, bound)
    return dataclasses.replace(style, **changes)


_NONE: dict[str, Any] = {
    name: 0.0
    for name in vars(Style())
    if name.endswith("_share") and not name.startswith(("word", "common", "number", "more_words"))
}
STYLES = {
    "scene": Style(),
    # dark letters on a light even ground, straight, sharp: print, and the easy start of a training
    "plain": Style(
        **_NONE,
        draw_unlabelled=False,
        tracking=(0.0, 0.06),
        stretch=(-0.1, 0.1),
        rotation=0.0,
        margin=(0.06, 0.2),
        contrast=(120.0, 235.0),
        exposure=0.0,
    ),
}


def get_styles(names: str) -> list[tuple[Style, float]]:
    """'scene*0.6,receipt.json*0.4' -> styles and their shares of the samples."""
    return [(get_style(name), w) for name, w in parse_names(names, "style") or [("", 1.0)]]


def get_style(name: str) -> Style:
    """The style of this name, or of a JSON file that changes some keys of one."""
    if name in STYLES:
        return STYLES[name]
    if not name.endswith(".json"):
        raise UserError(f"style {name!r}: one of {', '.join(STYLES)} or a .json file is expected")
    try:
        with open_file(name) as file:
            changes = json.load(file)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: not a readable JSON file ({error})") from error
    if not isinstance(changes, dict):
        raise UserError(f"{name}: an object of style keys is expected")
    base = str(changes.pop("base", "scene"))
    if base == name:
        raise UserError(f"{name}: is its own base")
    for key, value in changes.items():
        usual = vars(STYLES["scene"])
        if key not in usual:
            raise UserError(f"{name}: unknown style key {key!r}")
        ends, positive = value if isinstance(value, list) else [value], key in POSITIVE
        if not _is_like(usual[key], value) or (positive and (ends[0] < 0 or ends[-1] == 0)):
            raise UserError(f"{name}: {key} should look like {usual[key]!r}, not {value!r}")
        changes[key] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(get_style(base), **changes)


def _is_like(usual: Any, value: Any) -> bool:
    """Whether a value of a JSON file is of the kind of the usual one."""
    if isinstance(usual, Mapping):
        known = isinstance(value, dict) and set() < set(value) <= set(usual)
        return known and all(_is_like(0.0, weight) for weight in value.values())
    if isinstance(usual, tuple):
        number = 0 if all(type(n) is int for n in usual) else 0.0
        numbers = isinstance(value, list) and value and all(_is_like(number, n) for n in value)
        return bool(numbers) and (len(usual) != 2 or (len(value) == 2 and value[0] <= value[1]))
    if isinstance(usual, str) and isinstance(value, str):
        try:
            return bool(re.compile(value))
        except re.error:
            return False
    if type(usual) is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is type(usual)
