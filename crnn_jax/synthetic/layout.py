"""Where every letter of a word stands, and how large its image is, without drawing.

A word is set on a straight line in the pixels of its atlas (the strip), bent along an arc or a
wave, sheared, stretched and seen by a tilted camera (one homography), and cropped near its ink.
All of it is arithmetic on a few numbers a letter.

A bend is a kind and an amount: ('none', 0), ('arc', radius in pixels, positive with the centre
below) or ('wave', amplitude in pixels). A homography is nine numbers, row by row.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from crnn_jax.synthetic.atlas import Atlas
from crnn_jax.synthetic.fonts import CAP
from crnn_jax.synthetic.rng import Rng
from crnn_jax.synthetic.styles import Style

Matrix = tuple[float, ...]
Box = tuple[float, float, float, float]  # left, top, right, bottom
Bend = tuple[str, float]


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
    boxes: np.ndarray  # float32 [n 4]: x0, y0, x1, y1 of each letter or ligature in the image
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
    """Makes all choices of shape for one text that this face (row of the atlas) can draw.

    Images are `heights` (lowest, highest) pixels high; with a width / height above `max_aspect`
    they are squeezed.
    """
    letters, ink = _set_line(drawn, face, atlas, style, rng)
    bend = choose_bend(style, rng, ink)
    bent = bend_points(_corners(letters, face, atlas), ink, bend)
    camera = choose_camera(style, rng, ink)
    seen = project(camera, bent)
    (left, top), (right, bottom) = seen.min(0).tolist(), seen.max(0).tolist()
    reference = min(bottom - top, 2.0 * CAP)
    margins = [margin * reference for margin in _margins(style, rng)]
    left, right = left - margins[0], right + margins[1]
    if style.cut_share and rng.chance(style.cut_share):
        last = seen[4 * len(letters) - 4 :, 0]
        right = float(last.max() - rng.uniform(*style.cut) * np.ptp(last))
    top, bottom = top - margins[2], bottom + margins[3]
    height = rng.integer(*heights)
    scale = height / (bottom - top)
    width = max(8, round((right - left) * scale))
    width = min(width, round(max_aspect * height))
    across = width / (right - left)
    crop = (across, 0.0, -left * across, 0.0, scale, -top * scale, 0.0, 0.0, 1.0)
    forward = product(crop, camera)
    in_image = project(forward, bent).reshape(-1, 4, 2)
    boxes = np.concatenate([in_image.min(1), in_image.max(1)], 1).astype(np.float32)
    if rng.chance(style.neighbour_share):
        for some in _neighbours(letters, ink, rng):
            corners = bend_points(_corners(some, face, atlas), ink, bend)
            x, y = project(forward, corners).reshape(-1, 4, 2).mean(1).T
            # where the word is bent or turned, a whole line may come into the crop: two to read
            if np.mean((x > 0) & (x < width) & (y > 0) & (y < height)) < 0.5:
                letters = letters + some
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
    space = CAP * style.word_space[0]
    if style.word_space[0] < style.word_space[1]:
        justified = rng.chance(style.justified_share)
        space = CAP * rng.uniform(*(style.justified if justified else style.word_space))
        if atlas.monospaced[face]:
            space = advances[atlas.column_of["0"]]
    letters = []
    pen, first = 0.0, True
    for symbol in drawn:
        if symbol == " ":
            pen, first = pen + (space + tracking), True
            continue
        column = atlas.column_of[symbol]
        left, above, _, _ = boxes[column]
        scale = 0.76 if small and not first else 1.0
        shift = tilt = 0.0
        if bounce:
            shift, tilt = rng.uniform(-bounce, bounce), rng.normal(0.0, style.bounce_tilt)
            if style.bounce_size:
                scale *= math.exp(_clip(rng.normal(0.0, style.bounce_size), 0.35))
        top = shift - above * scale
        letters.append(Placed(column, pen + left * scale, top, scale, tilt))
        pen += advances[column] * scale + tracking
        first = False
    right = max(p.left + boxes[p.column][2] * p.scale for p in letters)
    bottom = max(p.top + boxes[p.column][3] * p.scale for p in letters)
    return letters, (min(p.left for p in letters), min(p.top for p in letters), right, bottom)


def _margins(style: Style, rng: Rng) -> list[float]:
    """Left, right, top, bottom, as shares of the height of the ink."""
    kind, span = rng.random(), style.margin
    if kind < style.loose_share:
        span = style.loose_margin
    elif kind < style.loose_share + style.tight_share:
        span = style.tight_margin
    return [rng.uniform(*span) for _ in range(4)]


def _corners(letters: list[Placed], face: int, atlas: Atlas) -> np.ndarray:
    """float [4 n, 2], of each letter on the strip."""
    boxes = atlas.metrics(face)[0]
    return np.array(
        [
            (x, y)
            for p in letters
            for x in (p.left, p.left + boxes[p.column][2] * p.scale)
            for y in (p.top, p.top + boxes[p.column][3] * p.scale)
        ]
    )


def _neighbours(letters: list[Placed], ink: Box, rng: Rng) -> Iterator[list[Placed]]:
    """Letters of the lines above and below and of the words beside; most fall outside the crop."""
    tall, wide = ink[3] - ink[1], ink[2] - ink[0]
    for side in ("above", "below", "left", "right"):
        if not rng.chance(0.45):
            continue
        if side in ("above", "below"):
            gap = rng.uniform(1.05, 1.4) * max(tall, CAP)
            shift = rng.uniform(-0.5, 0.5) * CAP
            order = letters[::-1] if rng.chance(0.5) else letters[1:] + letters[:1]
            slots = sorted(p.left for p in letters)
            down = gap if side == "below" else -gap
            yield [
                Placed(p.column, slot + shift, p.top + down, p.scale)
                for p, slot in zip(order, slots, strict=True)
            ]
        else:
            gap, p = rng.uniform(0.25, 0.5) * CAP, rng.pick(letters)
            left = ink[2] + gap if side == "right" else ink[0] - gap - wide / len(letters)
            yield [Placed(p.column, left, p.top, p.scale)]


def choose_bend(style: Style, rng: Rng, ink: Box) -> Bend:
    """An arc, a wave or none, for a word whose ink lies in this box."""
    length = ink[2] - ink[0]
    if length < 1.5 * CAP:  # a single letter has no line to bend
        return ("none", 0.0)
    if rng.chance(style.curve_share):
        angle = math.radians(rng.uniform(*style.curve)) * (1 if rng.chance(0.6) else -1)
        # the inner edge keeps at least half its length, or letters overlap
        least = 2.0 * (ink[3] - ink[1])
        radius = length / abs(angle)
        return ("arc", math.copysign(max(radius, least), angle))
    if rng.chance(style.wave_share):
        return ("wave", rng.uniform(0.1, 0.35) * CAP * (1 if rng.chance(0.5) else -1))
    return ("none", 0.0)


def bend_points(points: np.ndarray, ink: Box, bend: Bend) -> np.ndarray:
    """Strip points float [n 2] to points of the bent line; the middle of the word stays."""
    kind, amount = bend
    if kind == "none":
        return points
    middle, line = _middle(ink)
    x, y = points[:, 0] - middle, points[:, 1] - line
    if kind == "wave":
        return np.stack([points[:, 0], points[:, 1] + amount * np.sin(x * _wave_rate(ink))], 1)
    angle = x / amount  # positive radius: the centre lies below, the word is a rainbow
    reach = amount - y
    return np.stack([middle + reach * np.sin(angle), line + amount - reach * np.cos(angle)], 1)


def _middle(ink: Box) -> tuple[float, float]:
    return 0.5 * (ink[0] + ink[2]), 0.5 * (ink[1] + ink[3])


def _wave_rate(ink: Box) -> float:
    """Radians a strip pixel of the wave: about one period a word."""
    return 5.0 / max(ink[2] - ink[0], 1.0)


def unbend(
    across: np.ndarray, down: np.ndarray, ink: Box, bend: Bend
) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of an arc or a wave on float32 grids [h w] of x and of y."""
    kind, amount = bend
    middle, line = _middle(ink)
    if kind == "wave":
        return across, down - np.float32(amount) * np.sin((across - middle) * _wave_rate(ink))
    sign = 1.0 if amount > 0 else -1.0
    reach, angle = cv2.cartToPolar(sign * (line + amount - down), sign * (across - middle))
    angle = np.where(angle > np.pi, angle - np.float32(2.0 * np.pi), angle)
    return middle + amount * angle, line + amount - sign * reach


def choose_camera(style: Style, rng: Rng, ink: Box) -> Matrix:
    """A homography of stretch, slant, perspective and rotation about the middle of the word."""
    middle, line = _middle(ink)
    stretch = 2.0 ** rng.uniform(*style.stretch)
    slant = 0.0
    if rng.chance(style.slant_share):
        slant = math.tan(math.radians(_clip(rng.normal(0.0, style.slant), 28.0)))
    across = -stretch * middle + slant * line
    matrix: Matrix = (stretch, -slant, across, 0.0, 1.0, -line, 0.0, 0.0, 1.0)
    roll = rng.normal(0.0, style.rotation)
    if rng.chance(style.strong_rotation_share):
        roll = rng.normal(0.0, style.strong_rotation)
    if rng.chance(style.perspective_share):
        yaw = math.radians(_clip(rng.normal(0.0, style.yaw), 55.0))
        pitch = math.radians(_clip(rng.normal(0.0, style.pitch), 40.0))
        far = rng.uniform(*style.camera) * max(ink[2] - ink[0], 3.0 * CAP)
        # a point (x, y, 0) turned by yaw and pitch, then divided by its distance
        depth_x, depth_y = -math.sin(yaw), math.cos(yaw) * math.sin(pitch)
        view = (
            math.cos(yaw), 0.0, 0.0,
            math.sin(yaw) * math.sin(pitch), math.cos(pitch), 0.0,
            depth_x / far, depth_y / far, 1.0,
        )  # fmt: skip
        matrix = product(view, matrix)
    turn = math.radians(_clip(roll, 35.0))
    cos, sin = math.cos(turn), math.sin(turn)
    return product((cos, -sin, 0.0, sin, cos, 0.0, 0.0, 0.0, 1.0), matrix)


def project(matrix: Matrix, points: np.ndarray) -> np.ndarray:
    """Points float [n 2] under a homography."""
    a, b, c, d, e, f, g, h, i = matrix
    x, y = points[:, 0], points[:, 1]
    depth = g * x + h * y + i
    return np.stack([(a * x + b * y + c) / depth, (d * x + e * y + f) / depth], 1)


def product(one: Matrix, other: Matrix) -> Matrix:
    """The homography that does `other` first, then `one`."""
    return tuple(
        one[3 * r] * other[c] + one[3 * r + 1] * other[3 + c] + one[3 * r + 2] * other[6 + c]
        for r in range(3)
        for c in range(3)
    )


def _clip(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))
