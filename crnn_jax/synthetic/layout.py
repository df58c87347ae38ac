"""Where every letter of a word stands, and how large its image is, without drawing.

A word is set on a straight line in the pixels of its atlas (the strip), bent along an arc or a
wave, sheared, stretched and seen by a tilted camera (one homography), and cropped near its ink.
All of it is arithmetic on a few numbers a letter.

    layout = lay_out(drawn, face, atlas, style, Rng(seed, "shape", index), (32, 40), 10.0)
    layout.height, layout.width      # of the image, known before a pixel is drawn
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crnn_jax.synthetic.atlas import Atlas
from crnn_jax.synthetic.glyphs import CAP
from crnn_jax.synthetic.rng import Rng
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


@dataclass(frozen=True)
class Layout:
    """All choices of shape; lengths on the strip are in atlas pixels, y runs down."""

    drawn: str  # the text as it stands in the image
    face: int  # row of the atlas
    letters: tuple[Placed, ...]  # those of the word, then those of its neighbours
    ink: Box  # of the word on the strip
    bend: Bend
    forward: Matrix  # homography from the bent strip to image pixels
    height: int  # of the image in pixels
    width: int
    boxes: np.ndarray  # float32 [n 4]: x0, y0, x1, y1 of each letter in the image, no spaces
    style: Style  # that of an easy sample or the usual one


def lay_out(
    drawn: str,
    face: int,
    atlas: Atlas,
    style: Style,
    rng: Rng,
    heights: tuple[int, int],
    max_aspect: float,
) -> Layout:
    """Makes all choices of shape for one text.

    Args:
        drawn: the text; every character but the space is usable in this face.
        face: row of the atlas.
        rng: the 'shape' stream of the sample.
        heights: smallest and largest height of an image in pixels.
        max_aspect: wider images are squeezed to this width / height.
    """
    letters, ink = _set_line(drawn, face, atlas, style, rng)
    box_of = atlas.metrics(face)[0]
    bend = choose_bend(style, rng, ink)
    corners = np.array(
        [
            (x, y)
            for p in letters
            for x in (p.left, p.left + box_of[p.column][2] * p.scale)
            for y in (p.top, p.top + box_of[p.column][3] * p.scale)
        ]
    )
    bent = bend_points(corners, ink, bend)
    camera = choose_camera(style, rng, ink)
    seen = project(camera, bent)
    (left, top), (right, bottom) = seen.min(0).tolist(), seen.max(0).tolist()
    reference = min(bottom - top, 2.0 * CAP)
    margins = [margin * reference for margin in _margins(style, rng)]
    left -= margins[0]
    right += margins[1]
    top -= margins[2]
    bottom += margins[3]
    height = rng.integer(*heights)
    scale = height / (bottom - top)
    width = max(8, round((right - left) * scale))
    width = min(width, round(max_aspect * height))
    across = width / (right - left)
    forward = product(
        (across, 0.0, -left * across, 0.0, scale, -top * scale, 0.0, 0.0, 1.0), camera
    )
    in_image = project(forward, bent).reshape(-1, 4, 2)
    boxes = np.concatenate([in_image.min(1), in_image.max(1)], 1).astype(np.float32)
    if rng.chance(style.neighbour_share):
        letters = letters + _neighbours(letters, ink, rng)
    return Layout(drawn, face, tuple(letters), ink, bend, forward, height, width, boxes, style)


def _set_line(
    drawn: str, face: int, atlas: Atlas, style: Style, rng: Rng
) -> tuple[list[Placed], Box]:
    """Letters on a straight line, and the box of their ink."""
    wide = rng.chance(style.wide_tracking_share)
    tracking = CAP * rng.uniform(*(style.wide_tracking if wide else style.tracking))
    if atlas.joined(face) and not drawn.isupper():  # handwriting: letters must touch
        tracking = 0.0
    small = drawn.isupper() and len(drawn) > 2 and rng.chance(style.small_caps_share)
    bounce = style.bounce * CAP if rng.chance(style.bounce_share) else 0.0
    boxes, advances = atlas.metrics(face)
    letters = []
    pen, first = 0.0, True
    for symbol in drawn:
        if symbol == " ":
            pen += SPACE * CAP + tracking
            first = True
            continue
        column = atlas.column_of[symbol]
        left, above, _, _ = boxes[column]
        scale = 0.76 if small and not first else 1.0
        top, tilt = -above * scale, 0.0
        if bounce:
            top += rng.uniform(-bounce, bounce)
            tilt = rng.normal(0.0, 6.0)
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


def _margins(style: Style, rng: Rng) -> list[float]:
    """Left, right, top, bottom, as shares of the height of the ink."""
    kind = rng.random()
    if kind < style.loose_share:
        span = style.loose_margin
    elif kind < style.loose_share + style.tight_share:
        span = style.tight_margin
    else:
        span = style.margin
    return [rng.uniform(*span) for _ in range(4)]


def _neighbours(letters: list[Placed], ink: Box, rng: Rng) -> list[Placed]:
    """Letters of the lines above and below and of the words beside; most fall outside the crop."""
    tall, wide = ink[3] - ink[1], ink[2] - ink[0]
    found = []
    for side in ("above", "below", "left", "right"):
        if not rng.chance(0.45):
            continue
        if side in ("above", "below"):
            gap = rng.uniform(1.05, 1.4) * max(tall, CAP)
            shift = rng.uniform(-0.5, 0.5) * CAP
            order = letters[::-1] if rng.chance(0.5) else letters[1:] + letters[:1]
            slots = sorted(p.left for p in letters)
            down = gap if side == "below" else -gap
            found += [
                Placed(p.column, slot + shift, p.top + down, p.scale)
                for p, slot in zip(order, slots, strict=True)
            ]
        else:
            gap = rng.uniform(0.25, 0.5) * CAP
            p = rng.pick(letters)
            left = ink[2] + gap if side == "right" else ink[0] - gap - wide / len(letters)
            found.append(Placed(p.column, left, p.top, p.scale))
    return found
