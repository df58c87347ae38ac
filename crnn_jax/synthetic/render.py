"""A layout to an image: letters to coverage masks, then colours, background, light and camera."""

import colorsys
import functools
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from crnn_jax.synthetic import textures
from crnn_jax.synthetic.atlas import Atlas
from crnn_jax.synthetic.camera import light, photograph, ramp
from crnn_jax.synthetic.fonts import CAP
from crnn_jax.synthetic.layout import Layout, unbend
from crnn_jax.synthetic.rng import Rng
from crnn_jax.synthetic.styles import Range, Style

EDGE = 3  # empty pixels around the strip, so that the warp fades to nothing
SMALL = 0.12 * CAP**2  # pixels of a mask: points, commas, dashes, not an l
LEAST_CONTRAST = 18.0  # grey levels between letters and surface, on average
LUMA = np.array([0.299, 0.587, 0.114], np.float32)

Colour = Callable[[float], np.ndarray]  # of a grey level


@dataclass(frozen=True)
class Layers:
    """Coverage float32 [h w] from 0 to 1 each, of the image's size; None: there is none."""

    fill: np.ndarray
    border: np.ndarray | None
    shadow: np.ndarray | None


def draw_layers(layout: Layout, atlas: Atlas, rng: Rng) -> Layers:
    """Draws the letters of a layout, with the 'look' stream of the sample."""
    style = layout.style
    pale = rng.uniform(*style.faint) if style.faint_share and rng.chance(style.faint_share) else 1.0
    strip, left, top = _strip(layout, atlas, pale)
    strip = _weight(strip, style, rng)
    if rng.chance(style.rule_share):
        _rule(strip, layout, left, top, rng)
    if rng.chance(style.dots_share):
        strip = _dots(strip, rng)
    strip = _wear(strip, style, rng)
    border = shadow = None
    outlined = rng.chance(style.outline_share)
    if outlined or rng.chance(style.border_share):
        thick = max(1, round(rng.uniform(*style.border) * CAP))
        border = cv2.dilate(strip, _disc(thick))
    if rng.chance(style.shadow_share):
        shadow = _shadow(strip if border is None else border, style, rng)
    layers = [strip] + [layer for layer in (border, shadow) if layer is not None]
    fill, *rest = _warp(layers, layout, left, top)
    border = rest.pop(0) if border is not None else None
    shadow = rest.pop(0) if shadow is not None else None
    if style.speckle_share and rng.chance(style.speckle_share):
        specks = cv2.blur(rng.noise(fill.shape), (2, 2)) > rng.uniform(1.4, 2.0)
        fill = np.maximum(fill, specks * np.float32(rng.uniform(0.3, 1.0)))
    if outlined and border is not None:  # the letter's inside shows the background
        return Layers(np.clip(border - fill, 0.0, 1.0), None, shadow)
    return Layers(fill, border, shadow)


def _strip(layout: Layout, atlas: Atlas, pale: float) -> tuple[np.ndarray, int, int]:
    """uint8 [h w] of the letters side by side, and the strip position of its first pixel."""
    boxes = atlas.metrics(layout.face)[0]
    pad = EDGE + CAP // 3  # room for border and shadow
    left = int(np.floor(min(p.left for p in layout.letters))) - pad
    top = int(np.floor(min(p.top for p in layout.letters))) - pad
    right = max(p.left + boxes[p.column][2] * p.scale for p in layout.letters) + pad
    bottom = max(p.top + boxes[p.column][3] * p.scale for p in layout.letters) + pad
    strip = np.zeros((int(bottom) - top + 1, int(right) - left + 1), np.uint8)
    for p in layout.letters:
        mask = atlas.mask(layout.face, p.column)
        if pale < 1.0 and mask.size < SMALL:
            mask = (mask * pale).astype(np.uint8)
        if p.scale != 1.0:
            size = (max(1, round(mask.shape[1] * p.scale)), max(1, round(mask.shape[0] * p.scale)))
            mask = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
        if p.tilt:
            height, width = mask.shape
            turn = cv2.getRotationMatrix2D((width / 2, height / 2), p.tilt, 1.0)
            mask = cv2.warpAffine(mask, turn, (width, height))
        y, x = round(p.top) - top, round(p.left) - left
        part = strip[y : y + mask.shape[0], x : x + mask.shape[1]]
        np.maximum(part, mask, out=part)
    return strip, left, top


def _weight(strip: np.ndarray, style: Style, rng: Rng) -> np.ndarray:
    """Strokes made heavier or lighter by about a pixel, in steps finer than one."""
    kind = rng.random()
    if kind < style.bold_share:
        heavy = cv2.dilate(strip, _disc(1))
        share = rng.uniform(0.3, 1.0)
        if rng.chance(0.3):
            heavy, strip = cv2.dilate(heavy, _disc(1)), heavy
    elif kind < style.bold_share + style.thin_share:
        heavy, share = cv2.erode(strip, _disc(1)), rng.uniform(0.2, 0.6)
    else:
        return strip
    return cv2.addWeighted(heavy, share, strip, 1.0 - share, 0.0)


def _rule(strip: np.ndarray, layout: Layout, left: int, top: int, rng: Rng) -> None:
    """A line below the baseline, which is row 0 of the strip's own coordinates; in place."""
    high = round(rng.uniform(0.1, 0.3) * CAP - top)
    thick = max(1, round(rng.uniform(0.04, 0.12) * CAP))
    over = rng.uniform(-0.2, 0.3) * CAP
    first, last = round(layout.ink[0] - over - left), round(layout.ink[2] + over - left)
    strip[high : high + thick, max(0, first) : max(0, last)] = 255


def _dots(strip: np.ndarray, rng: Rng) -> np.ndarray:
    """Letters as a grid of lamps sees them."""
    rate = np.float32(2 * np.pi / rng.uniform(3.0, 4.5))
    y, x = (np.cos(np.arange(size, dtype=np.float32) * rate) for size in strip.shape)
    lamps = np.clip(0.75 + 0.5 * (y[:, None] + x[None, :]), 0.0, 1.0)
    return (cv2.blur(strip, (3, 3)) * lamps).astype(np.uint8)


def _wear(strip: np.ndarray, style: Style, rng: Rng) -> np.ndarray:
    """What printers, ribbons and scanners do to letters; no number is drawn for a share of 0."""
    binary = functools.partial(_binary, levels=style.binary)
    effects: tuple[Callable[..., np.ndarray], ...] = (_clog, _worn, _bands, binary)
    shares = (style.clog_share, style.worn_share, style.bands_share, style.binary_share)
    for share, effect in zip(shares, effects, strict=True):
        if share and rng.chance(share):
            strip = effect(strip, rng)
    return strip


def _clog(strip: np.ndarray, rng: Rng) -> np.ndarray:
    """Letters whose counters are full of ink."""
    full = cv2.morphologyEx(strip, cv2.MORPH_CLOSE, _disc(rng.integer(1, 3)))
    share = rng.uniform(0.3, 1.0)
    return cv2.addWeighted(full, share, strip, 1.0 - share, 0.0)


def _worn(strip: np.ndarray, rng: Rng) -> np.ndarray:
    """Less ink in some patches, or in the weave of a ribbon."""
    size = strip.shape[0], strip.shape[1]
    thin = textures.crop(rng, *size) + rng.uniform(0.0, 0.8) * cv2.blur(rng.noise(size), (2, 2))
    keep = 1.0 - np.float32(rng.uniform(0.1, 0.5)) * (thin + np.float32(rng.uniform(-1.0, 1.0)))
    return (strip * np.clip(keep, 0.15, 1.0)).astype(np.uint8)


def _bands(strip: np.ndarray, rng: Rng) -> np.ndarray:
    """Rows or columns that a thermal head prints paler."""
    shape = (strip.shape[0], 1) if rng.chance(0.4) else (1, strip.shape[1])
    noise = cv2.GaussianBlur(rng.noise(shape), (0, 0), rng.uniform(0.4, 8.0))
    noise = np.maximum(noise / (noise.std() + 1e-3) - rng.uniform(-0.5, 1.5), 0.0)
    keep = np.maximum(1.0 - rng.uniform(0.2, 0.65) * noise, 0.25)
    return (strip * keep).astype(np.uint8)


def _binary(strip: np.ndarray, rng: Rng, levels: Range) -> np.ndarray:
    """Black and white, with the rough edges, specks and breaks of a scanner's threshold."""
    soft = cv2.GaussianBlur(strip, (0, 0), rng.uniform(0.5, 1.4)).astype(np.float32)
    level = 255.0 * rng.uniform(*levels)
    soft += rng.noise(strip.shape) * np.float32(level * rng.uniform(0.0, 0.4))
    black = (soft > level).astype(np.uint8) * np.uint8(255)
    # hairlines would vanish, heavy faces run together: nobody could read these
    return black if 0.6 < black.mean() / (strip.mean() + 1e-3) < 1.6 else strip


def _disc(radius: int) -> np.ndarray:
    side = 2 * radius + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def _shadow(mask: np.ndarray, style: Style, rng: Rng) -> np.ndarray:
    """The letters' shape moved aside; drawn out to a block, blurred, or as it is."""
    reach = rng.uniform(*style.shadow_offset) * CAP
    angle = rng.uniform(0.0, 2.0 * np.pi)
    across, down = reach * np.cos(angle), reach * np.sin(angle)
    if rng.chance(style.block_share / max(style.shadow_share, 1e-6)):
        steps = max(2, round(2 * reach))
        kernel = np.zeros((2 * steps + 1, 2 * steps + 1), np.uint8)
        end = (steps + round(2 * across), steps + round(2 * down))
        cv2.line(kernel, (steps, steps), end, 1)
        return cv2.dilate(mask, cv2.flip(kernel, -1))
    move = np.array([[1, 0, across], [0, 1, down]], np.float32)
    moved = cv2.warpAffine(mask, move, mask.shape[::-1])
    if rng.chance(style.shadow_blur_share):
        moved = cv2.GaussianBlur(moved, (0, 0), rng.uniform(0.5, 0.8 * reach + 0.6))
    return moved


def _warp(layers: list[np.ndarray], layout: Layout, left: int, top: int) -> list[np.ndarray]:
    """Layers of the strip to layers of the image, float32 [h w] each, by one warp."""
    joined = layers[0] if len(layers) == 1 else cv2.merge(layers)
    back = np.linalg.inv(np.array(layout.forward).reshape(3, 3))
    # how many strip pixels one image pixel spans; beyond 1.3 the strip is softened, not skipped
    middle = back @ (layout.width / 2, layout.height / 2, 1.0)
    spans = abs(back[1, 1] / middle[2] - middle[1] / middle[2] ** 2 * back[2, 1])
    if spans > 1.3:
        joined = cv2.GaussianBlur(joined, (0, 0), 0.4 * float(spans))
    if layout.bend[0] == "none":
        shift = np.array([[1.0, 0.0, -left], [0.0, 1.0, -top], [0.0, 0.0, 1.0]])
        size = (layout.width, layout.height)
        warped = cv2.warpPerspective(
            joined, shift @ back, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
    else:  # where on the bent strip each image pixel lies, then on the straight one
        b = back.astype(np.float32)
        x = np.arange(layout.width, dtype=np.float32)[None, :]
        y = np.arange(layout.height, dtype=np.float32)[:, None]
        depth = 1.0 / (b[2, 0] * x + b[2, 1] * y + b[2, 2])
        across, down = ((row[0] * x + row[1] * y + row[2]) * depth for row in b[:2])
        across, down = unbend(across, down, layout.ink, layout.bend)
        warped = cv2.remap(joined, across - left, down - top, cv2.INTER_LINEAR)
    warped = warped.astype(np.float32) * np.float32(1.0 / 255.0)
    return [warped] if len(layers) == 1 else [warped[..., n] for n in range(len(layers))]


def paint(layers: Layers, boxes: np.ndarray, style: Style, rng: Rng, channels: int) -> np.ndarray:
    """Composes one image, uint8 [h w channels]; boxes float32 [n 4] of the letters in pixels."""
    size = layers.fill.shape[0], layers.fill.shape[1]
    back, ink = _levels(style, rng)
    letter = float(np.median(boxes[:, 3] - boxes[:, 1]))  # small letters stand less blur
    relief = rng.uniform(0.5, 1.0) * (ink - back) if rng.chance(style.relief_share) else 0.0
    if relief and rng.chance(0.5):
        ink = back + rng.uniform(-0.15, 0.15) * (ink - back)
    colour = _palette(rng, style, channels)
    image = _background(size, back, ink, style, rng, colour)
    if layers.shadow is not None:
        strength = rng.uniform(0.35, 1.0)
        _lay(image, colour(_shadow_level(rng, back, ink)), layers.shadow * np.float32(strength))
    if layers.border is not None:
        _lay(image, colour(_border_level(rng, back, ink)), layers.border)
    if rng.chance(style.letter_tones_share):
        apart = style.letter_tones * (ink - back)
        _lay(image, _tones(size[1], boxes, ink, apart, rng, colour), layers.fill)
    else:
        _lay(image, _ink(size, ink, style, rng, colour), layers.fill)
    if relief:
        image += _relief(layers.fill, relief, rng)
    if rng.chance(style.bloom_share):
        glow = cv2.GaussianBlur(layers.fill, (0, 0), rng.uniform(1.0, 4.0))
        _lay(image, colour(max(ink, 200.0)), glow * np.float32(rng.uniform(0.2, 0.7)))
    light(image, style, rng)
    if not relief:
        _keep_apart(image, layers.fill, 1.0 if ink > back else -1.0)
    return photograph(image, style, rng, letter, abs(back - ink))


def _levels(style: Style, rng: Rng) -> tuple[float, float]:
    """Grey levels of background and letters."""
    low, high = style.contrast
    distance = low + (high - low) * rng.random() ** style.contrast_power
    if style.paper_share and rng.chance(style.paper_share):
        back = min(255.0, rng.uniform(225.0, 275.0))  # white is the commonest
        return back, max(0.0, back - distance)
    dark = rng.uniform(0.0, 255.0 - distance)
    light_on_dark = rng.chance(style.light_on_dark_share)
    return (dark, dark + distance) if light_on_dark else (dark + distance, dark)


def _border_level(rng: Rng, back: float, ink: float) -> float:
    """Apart from the letters' level, mostly beyond the background or opposite."""
    if rng.chance(0.5):
        return 255.0 * (ink < 128.0) + rng.uniform(-40.0, 40.0)
    return back + (back - ink) * rng.uniform(0.2, 1.0)


def _shadow_level(rng: Rng, back: float, ink: float) -> float:
    """Mostly dark; never near the letters' own level, which would hide them."""
    level = rng.uniform(0.0, 60.0) if rng.chance(0.75) else rng.uniform(60.0, 255.0)
    if abs(level - ink) < 0.55 * abs(back - ink):
        level = back + (ink - back) * rng.uniform(-0.4, 0.4)
    return level


def _palette(rng: Rng, style: Style, channels: int) -> Colour:
    """Grey levels to colours float32 [channels] of that brightness; another hue each time."""

    def colour(level: float) -> np.ndarray:
        level = max(0.0, min(255.0, level))
        hue, strength = rng.random(), style.saturation * rng.random()
        if channels == 1:
            return np.array([level], np.float32)
        rgb = np.array(colorsys.hsv_to_rgb(hue, strength, 1.0), np.float32)
        rgb *= level / float(rgb @ LUMA)
        over = rgb.max()
        if over > 255.0:  # too bright for this hue: mix in white
            grey = np.float32(level)
            rgb = grey + (rgb - grey) * ((255.0 - grey) / (over - grey + 1e-3))
        return rgb.astype(np.float32)

    return colour


def _lay(image: np.ndarray, colour: np.ndarray, cover: np.ndarray) -> None:
    """image += cover * (colour - image), in place."""
    image += cover[..., None] * (colour - image)


def _background(
    size: tuple[int, int], back: float, ink: float, style: Style, rng: Rng, colour: Colour
) -> np.ndarray:
    """float32 [h w c]: one colour, two, a gradient, a texture over it, the edge of a sign."""
    away = 1.0 if back > ink else -1.0  # changes go away from the letters' level or stay small
    room = abs(back - ink)
    image = np.tile(colour(back), (*size, 1))
    if rng.chance(style.gradient_share):
        slope = ramp(*size, rng)
        image += (slope * np.float32(away * rng.uniform(-0.35, 0.8) * room))[..., None]
    if rng.chance(style.two_tone_share):
        side = (ramp(*size, rng) > rng.uniform(-0.6, 0.6)).astype(np.float32)
        other = back + away * room * (rng.uniform(0.2, 1.0) if rng.chance(0.7) else -0.45)
        _lay(image, colour(other), side)
    if rng.chance(style.texture_share):
        low, high = style.texture
        deviation = min(low + (high - low) * rng.random() ** 2, 0.3 * room + 2.0)
        image += (textures.crop(rng, *size) * np.float32(deviation))[..., None]
    if rng.chance(style.panel_share):
        edge = max(1, round(size[0] * rng.uniform(0.02, 0.09)))
        level = colour(rng.uniform(0.0, 255.0))
        sides = (image[:edge], 0.5), (image[-edge:], 0.5)
        for side, share in (*sides, (image[:, :edge], 0.2), (image[:, -edge:], 0.2)):
            if rng.chance(share):
                side[:] = level
    return image


def _ink(size: tuple[int, int], ink: float, style: Style, rng: Rng, colour: Colour) -> np.ndarray:
    """float32 [c] or [h w c]: the letters' colour, with a gradient or a texture at times."""
    level = colour(ink)
    if rng.chance(style.fill_gradient_share):
        level = level + (ramp(*size, rng) * np.float32(rng.uniform(10, 45)))[..., None]
    if rng.chance(style.fill_texture_share):
        level = level + (textures.crop(rng, *size) * np.float32(rng.uniform(3.0, 22.0)))[..., None]
    return level


def _tones(
    width: int, boxes: np.ndarray, ink: float, apart: float, rng: Rng, colour: Colour
) -> np.ndarray:
    """float32 [1 w c]: a colour a letter, all on the same side of the background."""
    tones = np.stack([colour(ink + apart * rng.uniform(-1.0, 1.0)) for _ in boxes])
    centres = (boxes[:, 0] + boxes[:, 2]) / 2
    nearest = np.abs(np.arange(width)[:, None] - centres[None, :]).argmin(1)
    return tones[nearest][None]


def _relief(fill: np.ndarray, strength: float, rng: Rng) -> np.ndarray:
    """float32 [h w 1]: edges turned to the light brighter, edges turned away darker."""
    soft = cv2.GaussianBlur(fill, (0, 0), rng.uniform(0.5, 1.1))
    angle = rng.uniform(0.0, 2.0 * np.pi)
    slope = np.cos(angle) * cv2.Sobel(soft, cv2.CV_32F, 1, 0)
    slope += np.sin(angle) * cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    return (slope * np.float32(0.35 * abs(strength) + 10.0))[..., None]


def _keep_apart(image: np.ndarray, fill: np.ndarray, sign: float) -> None:
    """Letters that light or a texture has swallowed come out again, barely; in place."""
    grey = image.mean(2)
    inside = float((grey * fill).sum() / (fill.sum() + 1.0))
    outside = float((grey * (1.0 - fill)).sum() / ((1.0 - fill).sum() + 1.0))
    missing = LEAST_CONTRAST - sign * (inside - outside)
    if missing > 0.0:
        no_room = outside < LEAST_CONTRAST if sign < 0.0 else outside > 255.0 - LEAST_CONTRAST
        change = fill - 1.0 if no_room else fill  # the surface gives way, or the letters
        image += (change * np.float32(sign * missing))[..., None]
