"""Bends and homographies: from a straight line of letters to the image, and back.

A bend is a kind and an amount: ('none', 0), ('arc', radius in pixels, positive with the centre
below) or ('wave', amplitude in pixels). A homography is nine numbers, row by row.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from crnn_jax.synthetic.glyphs import CAP
from crnn_jax.synthetic.rng import Rng
from crnn_jax.synthetic.styles import Style

Matrix = tuple[float, ...]
Box = tuple[float, float, float, float]  # left, top, right, bottom
Bend = tuple[str, float]


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
