"""Letters to coverage masks: the strip, its border and shadow, and the warp into the picture.

Synopsis:
    layers = draw_layers(layout, atlas, dice)
    layers.fill                       # float32 [h w], 0 to 1, as large as the picture
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from crnn_jax.synthetic.atlas import Atlas
from crnn_jax.synthetic.dice import Dice
from crnn_jax.synthetic.glyphs import CAP
from crnn_jax.synthetic.layout import Layout
from crnn_jax.synthetic.styles import Style
from crnn_jax.synthetic.warp import unbend

EDGE = 3  # empty pixels around the strip, so that the warp fades to nothing


@dataclass(frozen=True)
class Layers:
    """Coverage float32 [h w] from 0 to 1 each, of the picture's size; None: there is none."""

    fill: np.ndarray
    border: np.ndarray | None
    shadow: np.ndarray | None


def draw_layers(layout: Layout, atlas: Atlas, dice: Dice) -> Layers:
    """Draws the letters of a layout.

    Args:
        layout: from `lay_out`.
        dice: the 'look' stream of the sample.
    """
    style = layout.style
    strip, left, top = _strip(layout, atlas)
    strip = _weight(strip, style, dice)
    if dice.chance(style.rule_share):
        _rule(strip, layout, left, top, dice)
    if dice.chance(style.dots_share):
        strip = _dots(strip, dice)
    border = shadow = None
    outlined = dice.chance(style.outline_share)
    if outlined or dice.chance(style.border_share):
        thick = max(1, round(dice.uniform(*style.border) * CAP))
        border = cv2.dilate(strip, _disc(thick))
    if dice.chance(style.shadow_share):
        shadow = _shadow(strip if border is None else border, style, dice)
    layers = [strip] + [layer for layer in (border, shadow) if layer is not None]
    warped = _warp(layers, layout, left, top)
    fill, rest = warped[0], warped[1:]
    border_layer = rest.pop(0) if border is not None else None
    shadow_layer = rest.pop(0) if shadow is not None else None
    if outlined and border_layer is not None:  # the letter's inside shows the background
        fill = np.clip(border_layer - fill, 0.0, 1.0)
        border_layer = None
    return Layers(fill, border_layer, shadow_layer)


def _strip(layout: Layout, atlas: Atlas) -> tuple[np.ndarray, float, float]:
    """uint8 [h w] of the letters side by side, and the strip position of its first pixel."""
    boxes = atlas.metrics(layout.face)[0]
    pad = EDGE + CAP // 3  # room for border and shadow
    left = int(np.floor(min(p.left for p in layout.letters))) - pad
    top = int(np.floor(min(p.top for p in layout.letters))) - pad
    right = max(p.left + boxes[p.column][2] * p.scale for p in layout.letters) + pad
    bottom = max(p.top + boxes[p.column][3] * p.scale for p in layout.letters) + pad
    # neighbours may stand far off: what the crop cannot reach is not drawn
    strip = np.zeros((int(bottom) - top + 1, int(right) - left + 1), np.uint8)
    for p in layout.letters:
        mask = atlas.mask(layout.face, p.column)
        if p.scale != 1.0:
            size = (max(1, round(mask.shape[1] * p.scale)), max(1, round(mask.shape[0] * p.scale)))
            mask = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
        if p.tilt:
            mask = _tilt(mask, p.tilt)
        y, x = round(p.top) - top, round(p.left) - left
        part = strip[y : y + mask.shape[0], x : x + mask.shape[1]]
        np.maximum(part, mask[: part.shape[0], : part.shape[1]], out=part)
    return strip, left, top


def _tilt(mask: np.ndarray, degrees: float) -> np.ndarray:
    height, width = mask.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return cv2.warpAffine(mask, turn, (width, height))


def _weight(strip: np.ndarray, style: Style, dice: Dice) -> np.ndarray:
    """Strokes made heavier or lighter by about a pixel, in steps finer than one."""
    kind = dice.random()
    if kind < style.bold_share:
        heavy = cv2.dilate(strip, _disc(1))
        share = dice.uniform(0.3, 1.0)
        if dice.chance(0.3):
            heavy, strip = cv2.dilate(heavy, _disc(1)), heavy
    elif kind < style.bold_share + style.thin_share:
        heavy, share = cv2.erode(strip, _disc(1)), dice.uniform(0.2, 0.6)
    else:
        return strip
    return cv2.addWeighted(heavy, share, strip, 1.0 - share, 0.0)


def _rule(strip: np.ndarray, layout: Layout, left: float, top: float, dice: Dice) -> None:
    """A line below the baseline, which is row 0 of the strip's own coordinates; in place."""
    high = round(dice.uniform(0.1, 0.3) * CAP - top)
    thick = max(1, round(dice.uniform(0.04, 0.12) * CAP))
    over = dice.uniform(-0.2, 0.3) * CAP
    first, last = round(layout.ink[0] - over - left), round(layout.ink[2] + over - left)
    strip[high : high + thick, max(0, first) : max(0, last)] = 255


def _dots(strip: np.ndarray, dice: Dice) -> np.ndarray:
    """Letters as a grid of lamps sees them."""
    step = dice.uniform(3.0, 4.5)
    height, width = strip.shape
    y = np.cos(np.arange(height, dtype=np.float32) * np.float32(2 * np.pi / step))
    x = np.cos(np.arange(width, dtype=np.float32) * np.float32(2 * np.pi / step))
    lamps = np.clip(0.75 + 0.5 * (y[:, None] + x[None, :]), 0.0, 1.0)
    return (cv2.blur(strip, (3, 3)) * lamps).astype(np.uint8)


def _disc(radius: int) -> np.ndarray:
    side = 2 * radius + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def _shadow(mask: np.ndarray, style: Style, dice: Dice) -> np.ndarray:
    """The letters' shape moved aside; drawn out to a block, blurred, or as it is."""
    reach = dice.uniform(*style.shadow_offset) * CAP
    angle = dice.uniform(0.0, 2.0 * np.pi)
    across, down = reach * np.cos(angle), reach * np.sin(angle)
    if dice.chance(style.block_share / max(style.shadow_share, 1e-6)):
        steps = max(2, round(2 * reach))
        kernel = np.zeros((2 * steps + 1, 2 * steps + 1), np.uint8)
        end = (steps + round(2 * across), steps + round(2 * down))
        cv2.line(kernel, (steps, steps), end, 1)
        return cv2.dilate(mask, cv2.flip(kernel, -1))
    moved = cv2.warpAffine(
        mask, np.array([[1, 0, across], [0, 1, down]], np.float32), mask.shape[::-1]
    )
    if dice.chance(style.shadow_blur_share):
        moved = cv2.GaussianBlur(moved, (0, 0), dice.uniform(0.5, 0.8 * reach + 0.6))
    return moved


def _warp(layers: list[np.ndarray], layout: Layout, left: float, top: float) -> list[np.ndarray]:
    """Layers of the strip to layers of the picture, float32 [h w] each, by one warp."""
    joined = layers[0] if len(layers) == 1 else cv2.merge(layers)
    back = np.linalg.inv(np.array(layout.forward).reshape(3, 3))
    # how many strip pixels one picture pixel spans; beyond 1.3 the strip is softened, not skipped
    middle = back @ (layout.width / 2, layout.height / 2, 1.0)
    spans = abs(back[1, 1] / middle[2] - middle[1] / middle[2] ** 2 * back[2, 1])
    if spans > 1.3:
        joined = cv2.GaussianBlur(joined, (0, 0), 0.4 * float(spans))
    size = (layout.width, layout.height)
    if layout.bend[0] == "none":
        shift = np.array([[1.0, 0.0, -left], [0.0, 1.0, -top], [0.0, 0.0, 1.0]])
        warped = cv2.warpPerspective(
            joined, shift @ back, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
    else:
        across, down = unbend(*_bent_grid(layout, back), layout.ink, layout.bend)
        warped = cv2.remap(joined, across - left, down - top, cv2.INTER_LINEAR)
    warped = warped.astype(np.float32) * np.float32(1.0 / 255.0)
    return [warped] if len(layers) == 1 else [warped[..., n] for n in range(len(layers))]


def _bent_grid(layout: Layout, back: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where on the bent strip each picture pixel lies: x and y, float32 [h w]."""
    b = back.astype(np.float32)
    x = np.arange(layout.width, dtype=np.float32)[None, :]
    y = np.arange(layout.height, dtype=np.float32)[:, None]
    depth = 1.0 / (b[2, 0] * x + b[2, 1] * y + b[2, 2])
    across = (b[0, 0] * x + b[0, 1] * y + b[0, 2]) * depth
    down = (b[1, 0] * x + b[1, 1] * y + b[1, 2]) * depth
    return across, down
