"""The glyphs of one face as pixels and metrics.

Synopsis:
    glyphs = draw_face(face, characters)
    glyphs.masks[column]              # uint8 [h w]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import ImageFont

from crnn_jax.synthetic.fonts import Face, family_of

CAP = 28  # pixels of an H: words are drawn at about this height, so that little is scaled
TOFU = "\U000f2345"  # a private code point that no face draws: what comes out is its 'missing' box
FAINT = 40  # coverage up to which a row or column counts as empty


@dataclass
class Glyphs:
    """One face: masks and metrics in pixels, columns in the order of the characters asked for."""

    family: str
    masks: list[np.ndarray]  # uint8 [h w], cut to the ink; [0 0] where the face cannot draw it
    box: np.ndarray  # int16 [c 4]: left, top (above the baseline), width, height
    advance: np.ndarray  # float32 [c]


def draw_glyph(font: ImageFont.FreeTypeFont, symbol: str) -> tuple[np.ndarray, int, int]:
    """One glyph.

    Returns:
        mask uint8 [h w] cut to its ink ([0 0] if none), left in pixels from the pen, top in
        pixels above the baseline.
    """
    core, (left, down) = font.getmask2(symbol, "L", anchor="ls")
    width, height = core.size
    if not width or not height:
        return np.zeros((0, 0), np.uint8), 0, 0
    mask = np.frombuffer(bytes(core), np.uint8).reshape(height, width)
    rows = np.flatnonzero(mask.max(1) > FAINT)
    columns = np.flatnonzero(mask.max(0) > FAINT)
    if not rows.size:
        return np.zeros((0, 0), np.uint8), 0, 0
    mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return mask, left + int(columns[0]), -(down + int(rows[0]))


def draw_face(face: Face, characters: Iterable[str]) -> Glyphs | None:
    """All glyphs of a face at the size where its H is CAP pixels high; None if it has no H."""
    try:
        font = face.open(100)
        tall = draw_glyph(font, "H")[0].shape[0] or draw_glyph(font, "0")[0].shape[0]
        if not 15 <= tall <= 250:
            return None
        font = face.open(max(6, round(100 * CAP / tall)))
        drawn = [draw_glyph(font, c) for c in (*characters, TOFU)]
        advance = np.array([font.getlength(c) for c in characters], np.float32)
    except (OSError, ValueError, MemoryError):
        return None
    tofu = drawn.pop()[0]
    for at, (mask, _, _) in enumerate(drawn):
        large = max(mask.shape) > 6 * CAP
        if large or (mask.shape == tofu.shape and np.array_equal(mask, tofu)):
            drawn[at] = (np.zeros((0, 0), np.uint8), 0, 0)
    box = [(left, top, mask.shape[1], mask.shape[0]) for mask, left, top in drawn]
    return Glyphs(family_of(font), [d[0] for d in drawn], np.array(box, np.int16), advance)
