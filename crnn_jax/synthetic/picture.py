"""Coverage masks to a picture: colours, background and letters, then light and camera.

Synopsis:
    picture = paint(layers, layout.boxes, style, Dice(seed, "look", index), channels=1)
"""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

from crnn_jax.synthetic import textures
from crnn_jax.synthetic.camera import light, photograph, ramp
from crnn_jax.synthetic.dice import Dice
from crnn_jax.synthetic.drawing import Layers
from crnn_jax.synthetic.styles import Style

LEAST_CONTRAST = 18.0  # grey levels between letters and surface, on average
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def paint(layers: Layers, boxes: np.ndarray, style: Style, dice: Dice, channels: int) -> np.ndarray:
    """Composes one picture.

    Args:
        layers: float32 [h w] masks.
        boxes: float32 [n 4] of the letters: x0, y0, x1, y1 in pixels.
        dice: the 'look' stream of the sample, after the layers were drawn from it.
        channels: 1 grey, 3 RGB.

    Returns:
        uint8 [h w channels].
    """
    height, width = layers.fill.shape
    back, ink = _levels(style, dice)
    letter = float(np.median(boxes[:, 3] - boxes[:, 1]))  # small letters stand less blur
    relief = dice.uniform(0.5, 1.0) * (ink - back) if dice.chance(style.relief_share) else 0.0
    if relief and dice.chance(0.5):
        ink = back + dice.uniform(-0.15, 0.15) * (ink - back)
    colour = _Colours(dice, style, channels)
    picture = _background(height, width, back, ink, style, dice, colour)
    if layers.shadow is not None:
        strength = dice.uniform(0.35, 1.0)
        _lay(picture, colour(_shadow_level(dice, back, ink)), layers.shadow * np.float32(strength))
    if layers.border is not None:
        _lay(picture, colour(_third_level(dice, back, ink)), layers.border)
    if dice.chance(style.letter_tones_share):
        _lay(picture, _tones(width, boxes, back, ink, dice, colour), layers.fill)
    else:
        _lay(picture, _ink(height, width, ink, style, dice, colour), layers.fill)
    if relief:
        picture += _relief(layers.fill, relief, dice)
    if dice.chance(style.bloom_share):
        glow = cv2.GaussianBlur(layers.fill, (0, 0), dice.uniform(1.0, 4.0))
        _lay(picture, colour(max(ink, 200.0)), glow * np.float32(dice.uniform(0.2, 0.7)))
    light(picture, style, dice)
    if not relief:
        _keep_apart(picture, layers.fill, 1.0 if ink > back else -1.0)
    return photograph(picture, style, dice, letter, abs(back - ink))


def _levels(style: Style, dice: Dice) -> tuple[float, float]:
    """Grey levels of background and letters."""
    low, high = style.contrast
    distance = low + (high - low) * dice.random() ** style.contrast_power
    dark = dice.uniform(0.0, 255.0 - distance)
    light_on_dark = dice.chance(style.light_on_dark_share)
    return (dark, dark + distance) if light_on_dark else (dark + distance, dark)


def _third_level(dice: Dice, back: float, ink: float) -> float:
    """A level for borders: apart from the letters', mostly beyond the background or opposite."""
    if dice.chance(0.5):
        return 255.0 * (ink < 128.0) + dice.uniform(-40.0, 40.0)
    return back + (back - ink) * dice.uniform(0.2, 1.0)


def _shadow_level(dice: Dice, back: float, ink: float) -> float:
    """Mostly dark; never near the letters' own level, which would hide them."""
    level = dice.uniform(0.0, 60.0) if dice.chance(0.75) else dice.uniform(60.0, 255.0)
    if abs(level - ink) < 0.55 * abs(back - ink):
        level = back + (ink - back) * dice.uniform(-0.4, 0.4)
    return level


class _Colours:
    """Grey levels to colours of that brightness; a few hues a picture."""

    def __init__(self, dice: Dice, style: Style, channels: int):
        self.dice, self.channels, self.most = dice, channels, style.saturation

    def __call__(self, level: float) -> np.ndarray:
        """float32 [channels]."""
        level = max(0.0, min(255.0, level))
        hue, strength = self.dice.random(), self.most * self.dice.random()
        if self.channels == 1:
            return np.array([level], np.float32)
        rgb = np.array(colorsys.hsv_to_rgb(hue, strength, 1.0), np.float32)
        rgb *= level / float(rgb @ LUMA)
        over = rgb.max()
        if over > 255.0:  # too bright for this hue: mix in white
            grey = np.float32(level)
            rgb = grey + (rgb - grey) * ((255.0 - grey) / (over - grey + 1e-3))
        return rgb.astype(np.float32)


def _lay(picture: np.ndarray, colour: np.ndarray, cover: np.ndarray) -> None:
    """picture += cover * (colour - picture), in place."""
    picture += cover[..., None] * (colour - picture)


def _background(
    height: int, width: int, back: float, ink: float, style: Style, dice: Dice, colour: _Colours
) -> np.ndarray:
    """float32 [h w c]: one colour, two, a gradient, a texture over it, the edge of a sign."""
    away = 1.0 if back > ink else -1.0  # changes go away from the letters' level or stay small
    room = abs(back - ink)
    picture = np.empty((height, width, colour.channels), np.float32)
    picture[:] = colour(back)
    if dice.chance(style.gradient_share):
        slope = ramp(height, width, dice)
        picture += (slope * np.float32(away * dice.uniform(-0.35, 0.8) * room))[..., None]
    if dice.chance(style.two_tone_share):
        side = (ramp(height, width, dice) > dice.uniform(-0.6, 0.6)).astype(np.float32)
        other = back + away * room * (dice.uniform(0.2, 1.0) if dice.chance(0.7) else -0.45)
        _lay(picture, colour(other), side)
    if dice.chance(style.texture_share):
        low, high = style.texture
        deviation = min(low + (high - low) * dice.random() ** 2, 0.3 * room + 2.0)
        picture += (textures.crop(dice, height, width) * np.float32(deviation))[..., None]
    if dice.chance(style.panel_share):
        edge = max(1, round(height * dice.uniform(0.02, 0.09)))
        level = colour(dice.uniform(0.0, 255.0))
        if dice.chance(0.5):
            picture[:edge] = level
        if dice.chance(0.5):
            picture[-edge:] = level
        if dice.chance(0.2):
            picture[:, :edge] = level
        if dice.chance(0.2):
            picture[:, -edge:] = level
    return picture


def _ink(
    height: int, width: int, ink: float, style: Style, dice: Dice, colour: _Colours
) -> np.ndarray:
    """float32 [c] or [h w c]: the letters' colour, with a gradient or a texture at times."""
    level = colour(ink)
    if dice.chance(style.fill_gradient_share):
        level = level + (ramp(height, width, dice) * np.float32(dice.uniform(10, 45)))[..., None]
    if dice.chance(style.fill_texture_share):
        texture = textures.crop(dice, height, width) * np.float32(dice.uniform(3.0, 22.0))
        level = level + texture[..., None]
    return level


def _tones(
    width: int, boxes: np.ndarray, back: float, ink: float, dice: Dice, colour: _Colours
) -> np.ndarray:
    """float32 [1 w c]: a colour a letter, all on the same side of the background."""
    tones = np.stack([colour(ink + (ink - back) * dice.uniform(-0.5, 0.5)) for _ in boxes])
    centres = (boxes[:, 0] + boxes[:, 2]) / 2
    nearest = np.abs(np.arange(width)[:, None] - centres[None, :]).argmin(1)
    return tones[nearest][None]


def _relief(fill: np.ndarray, strength: float, dice: Dice) -> np.ndarray:
    """float32 [h w 1]: edges turned to the light brighter, edges turned away darker."""
    soft = cv2.GaussianBlur(fill, (0, 0), dice.uniform(0.5, 1.1))
    angle = dice.uniform(0.0, 2.0 * np.pi)
    slope = np.cos(angle) * cv2.Sobel(soft, cv2.CV_32F, 1, 0)
    slope += np.sin(angle) * cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    return (slope * np.float32(0.35 * abs(strength) + 10.0))[..., None]


def _keep_apart(picture: np.ndarray, fill: np.ndarray, sign: float) -> None:
    """Letters that light or a texture has swallowed come out again, barely; in place."""
    grey = picture.mean(2)
    inside = float((grey * fill).sum() / (fill.sum() + 1.0))
    outside = float((grey * (1.0 - fill)).sum() / ((1.0 - fill).sum() + 1.0))
    missing = LEAST_CONTRAST - sign * (inside - outside)
    if missing > 0.0:
        no_room = outside < LEAST_CONTRAST if sign < 0.0 else outside > 255.0 - LEAST_CONTRAST
        change = fill - 1.0 if no_room else fill  # the surface gives way, or the letters
        picture += (change * np.float32(sign * missing))[..., None]
