"""Where every letter of a word stands, and how large its picture is, without drawing.

A word is set on a straight line in the pixels of its atlas (the strip), bent along an arc or a
wave, sheared, stretched and seen by a tilted camera (one homography), and cropped near its ink.
All of it is arithmetic on a few numbers a letter.

Synopsis:
    layout = lay_out(drawn, atlas, faces, style, Dice(seed, "shape", index), heights=(32, 40))
    layout.height, layout.width      # of the picture, known before a pixel is drawn
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crnn_jax.synthetic.atlas import Atlas
from crnn_jax.synthetic.dice import Dice
from crnn_jax.synthetic.glyphs import CAP
from crnn_jax.synthetic.styles import Style
from crnn_jax.synthetic.warp import (
    Bend,
    Box,
    Matrix,
    bend_points,
    choose_bend,
    choose_camera,
    product,
    project,
)

SPACE = 0.33  # width of a space in cap heights; faces differ little


@dataclass(frozen=True)
class Placed:
    """One letter on the strip: its column in the atlas, left and top edge, scale and tilt."""

    column: int
    left: float
    top: float
    scale: float = 1.0
    tilt: float = 0.0  # degrees
    counts: bool = True  # False: a letter of a neighbouring word


@dataclass(frozen=True)
class Layout:
    """All choices of shape; lengths on the strip are in atlas pixels, y runs down.

    Attributes:
        drawn: the text as it stands in the picture.
        face: row of the atlas.
        letters: those of the word, then those of its neighbours.
        ink: (left, top, right, bottom) of the word on the strip.
        bend: see warp.py.
        forward: homography from the bent strip to picture pixels, row by row.
        height, width: of the picture in pixels.
        boxes: float32 [n 4]: x0, y0, x1, y1 of each letter in the picture, spaces left out.
        style: the distributions it is drawn from, those of an easy sample or the usual ones.
    """

    drawn: str
    face: int
    letters: tuple[Placed, ...]
    ink: Box
    bend: Bend
    forward: Matrix
    height: int
    width: int
    boxes: np.ndarray
    style: Style


def lay_out(
    drawn: str,
    face: int,
    atlas: Atlas,
    style: Style,
    dice: Dice,
    heights: tuple[int, int],
    max_aspect: float,
) -> Layout:
    """Makes all choices of shape for one text.

    Args:
        drawn: the text; every character but the space is usable in this face.
        face: row of the atlas.
        dice: the 'shape' stream of the sample.
        heights: smallest and largest height of a picture in pixels.
        max_aspect: wider pictures are squeezed to this width / height.
    """
    letters, ink = _set_line(drawn, face, atlas, style, dice)
    box_of = atlas.metrics(face)[0]
    bend = choose_bend(style, dice, ink)
    corners = np.array(
        [
            (x, y)
            for p in letters
            for x in (p.left, p.left + box_of[p.column][2] * p.scale)
            for y in (p.top, p.top + box_of[p.column][3] * p.scale)
        ]
    )
    bent = bend_points(corners, ink, bend)
    camera = choose_camera(style, dice, ink)
    seen = project(camera, bent)
    (left, top), (right, bottom) = seen.min(0).tolist(), seen.max(0).tolist()
    tall = bottom - top
    margins = _margins(style, dice)
    reference = min(tall, 2.0 * CAP)
    left -= margins[0] * reference
    right += margins[1] * reference
    top -= margins[2] * reference
    bottom += margins[3] * reference
    height = dice.integer(*heights)
    scale = height / (bottom - top)
    width = max(8, round((right - left) * scale))
    width = min(width, round(max_aspect * height))
    across = width / (right - left)
    forward = product(
        (across, 0.0, -left * across, 0.0, scale, -top * scale, 0.0, 0.0, 1.0), camera
    )
    in_picture = project(forward, bent).reshape(-1, 4, 2)
    boxes = np.concatenate([in_picture.min(1), in_picture.max(1)], 1).astype(np.float32)
    if dice.chance(style.neighbour_share):
        letters = letters + _neighbours(letters, ink, dice)
    return Layout(drawn, face, tuple(letters), ink, bend, forward, height, width, boxes, style)


def _set_line(
    drawn: str, face: int, atlas: Atlas, style: Style, dice: Dice
) -> tuple[list[Placed], Box]:
    """Letters on a straight line, and the box of their ink."""
    wide = dice.chance(style.wide_tracking_share)
    tracking = CAP * dice.uniform(*(style.wide_tracking if wide else style.tracking))
    if atlas.joined(face) and not drawn.isupper():  # handwriting: letters must touch
        tracking = 0.0
    small = drawn.isupper() and len(drawn) > 2 and dice.chance(style.small_caps_share)
    bounce = style.bounce * CAP if dice.chance(style.bounce_share) else 0.0
    column_of = atlas.column_of
    boxes, advances = atlas.metrics(face)
    letters = []
    pen, first = 0.0, True
    for symbol in drawn:
        if symbol == " ":
            pen += SPACE * CAP + tracking
            first = True
            continue
        column = column_of[symbol]
        left, above, _, _ = boxes[column]
        scale = 0.76 if small and not first else 1.0
        top, tilt = -above * scale, 0.0
        if bounce:
            top += dice.uniform(-bounce, bounce)
            tilt = dice.normal(0.0, 6.0)
        letters.append(Placed(column, pen + left * scale, top, scale, tilt))
        pen += advances[column] * scale + tracking
        first = False
    ink = (
        min(p.left for p in letters),
        min(p.top for p in letters),
        max(p.left + boxes[p.column][2] * p.scale for p in letters),
        max(p.top + boxes[p.column][3] * p.scale for p in letters),
    )
    return letters, ink


def _margins(style: Style, dice: Dice) -> list[float]:
    """Left, right, top, bottom, as shares of the height of the ink."""
    kind = dice.random()
    if kind < style.loose_share:
        span = style.loose_margin
    elif kind < style.loose_share + style.tight_share:
        span = style.tight_margin
    else:
        span = style.margin
    return [dice.uniform(*span) for _ in range(4)]


def _neighbours(letters: list[Placed], ink: Box, dice: Dice) -> list[Placed]:
    """Letters of the lines above and below and of the words beside; most fall outside the crop."""
    tall, wide = ink[3] - ink[1], ink[2] - ink[0]
    found = []
    for side in ("above", "below", "left", "right"):
        if not dice.chance(0.45):
            continue
        if side in ("above", "below"):
            gap = dice.uniform(1.05, 1.4) * max(tall, CAP)
            shift = dice.uniform(-0.5, 0.5) * CAP
            order = letters[::-1] if dice.chance(0.5) else letters[1:] + letters[:1]
            slots = sorted(p.left for p in letters)
            down = gap if side == "below" else -gap
            found += [
                Placed(p.column, slot + shift, p.top + down, p.scale, counts=False)
                for p, slot in zip(order, slots, strict=True)
            ]
        else:
            gap = dice.uniform(0.25, 0.5) * CAP
            p = dice.pick(letters)
            left = ink[2] + gap if side == "right" else ink[0] - gap - wide / len(letters)
            found.append(Placed(p.column, left, p.top, p.scale, counts=False))
    return found
