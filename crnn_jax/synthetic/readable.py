"""Which characters of a face people can read: no blanks, no boxes, no dingbats, no barcodes.

Each letter and digit is scaled to one small square and compared with those of the font inside
Pillow, in three weights and three slants. Letters of a Latin face are mostly nearest to a letter
of the same name; pictures, codes and other alphabets hit by chance.
"""

from __future__ import annotations

import functools
import string

import cv2
import numpy as np

from crnn_jax.synthetic.fonts import BUILTIN, Face
from crnn_jax.synthetic.glyphs import draw_glyph

SIDE = 16  # pixels of the square in which shapes are compared
LEAST_SCORE = 0.42  # share of letters nearest to their own name; chance is about 0.05
COMPARED = string.ascii_letters + string.digits
# lower-case letters whose capital looks otherwise: a face that draws both alike has no lower case
UNLIKE_CAPITAL = "abdefghnqrt"


def _shape(mask: np.ndarray) -> np.ndarray:
    """float32 [SIDE * SIDE + 1] of unit length: the glyph scaled to a square, and its aspect."""
    height, width = mask.shape
    square = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(square.astype(np.float32), (0, 0), 1.0).ravel()
    blurred = blurred - blurred.mean()
    blurred = blurred / (np.linalg.norm(blurred) + 1e-6)
    # narrow letters scaled to a square are all alike: their aspect tells i from m
    aspect = 0.5 * np.log2(np.clip(width / height, 0.1, 4.0))
    return np.append(blurred, np.float32(0.4 * aspect))


@functools.cache
def _reference() -> tuple[np.ndarray, np.ndarray]:
    """Shapes float32 [n d] of the reference letters, and the index in COMPARED of each."""
    font = Face(BUILTIN).open(56)
    shapes, names = [], []
    for at, symbol in enumerate(COMPARED):
        mask = draw_glyph(font, symbol)[0]
        mask = cv2.copyMakeBorder(mask, 4, 4, 18, 18, cv2.BORDER_CONSTANT, value=0)
        for grow in (0, 5, 9):
            for slant in (0.0, -0.2, -0.4):
                shear = np.array([[1, slant, -slant * mask.shape[0] / 2], [0, 1, 0]], np.float32)
                other = cv2.warpAffine(mask, shear, mask.shape[::-1])
                if grow:
                    other = cv2.dilate(other, np.ones((grow, grow), np.uint8))
                rows = np.flatnonzero(other.max(1))
                columns = np.flatnonzero(other.max(0))
                ink = other[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                shapes.append(_shape(ink))
                names.append(at)
    return np.stack(shapes), np.array(names)


def score(characters: tuple[str, ...], masks: list[np.ndarray]) -> float:
    """Share of the letters and digits drawn that are nearest to their own name, case aside.

    1.0 where the face draws none of them: it is for another script, and is taken as it is.
    """
    shapes, names = _reference()
    hits, count = 0, 0
    for symbol, mask in zip(characters, masks, strict=True):
        if symbol not in COMPARED or not mask.size:
            continue
        count += 1
        nearest = COMPARED[names[int(np.argmin(((shapes - _shape(mask)) ** 2).sum(1)))]]
        hits += _ALIKE.get(nearest.lower(), nearest.lower()) == _ALIKE.get(
            symbol.lower(), symbol.lower()
        )
    return hits / count if count >= 5 else (1.0 if count == 0 else 0.0)


_ALIKE = {"0": "o", "1": "l", "i": "l", "5": "s", "2": "z", "j": "l"}


def readable_columns(
    characters: tuple[str, ...], masks: list[np.ndarray], box: np.ndarray, legibility: float
) -> np.ndarray:
    """bool [c]: the face draws this character so that it can be read.

    Args:
        characters: the columns.
        masks: uint8 [h w] each, [0 0] where nothing or the 'missing' box was drawn.
        box: int16 [c 4]: left, top above the baseline, width, height in pixels.
        legibility: the face's `score`.
    """
    usable = np.array([bool(mask.size) for mask in masks])
    at = {symbol: n for n, symbol in enumerate(characters)}
    compared = [n for symbol, n in at.items() if symbol in COMPARED and usable[n]]
    if compared:
        ink = np.array([masks[n].mean() / 255.0 for n in compared])
        height = np.array([box[n, 3] for n in compared])
        # nearly solid blocks, hairlines, letters that tower over each other
        if np.median(ink) > 0.85 or np.median(ink) < 0.06 or height.max() > 4 * np.median(height):
            return np.zeros_like(usable)
        if legibility < LEAST_SCORE:
            return np.zeros_like(usable)
        if len({masks[n].tobytes() for n in compared}) < 0.4 * len(compared):
            return np.zeros_like(usable)
    for group in (string.ascii_uppercase, string.ascii_lowercase, string.digits):
        if not all(usable[at[c]] for c in group if c in at):  # initials, swash alternates
            usable[[at[c] for c in group if c in at]] = False
    pairs = [(at[c], at[c.upper()]) for c in UNLIKE_CAPITAL if c in at and c.upper() in at]
    alike = [_same(masks[low], masks[high]) for low, high in pairs if usable[low] and usable[high]]
    if alike and np.mean(alike) > 0.5:  # capitals in the place of lower case: not lower case
        for symbol in string.ascii_lowercase:
            if symbol in at:
                usable[at[symbol]] = False
    return usable


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(((_shape(one) - _shape(other)) ** 2).sum() < 0.15)
