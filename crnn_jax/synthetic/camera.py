"""What happens to a painted sign: light, camera and file.

Images are float32 [h w c] in grey levels until `photograph` returns uint8.
"""

import cv2
import numpy as np

from crnn_jax.synthetic.rng import Rng
from crnn_jax.synthetic.styles import Style

LEAST_LETTER = 7.5  # pixels: below this height letters run together


def ramp(height: int, width: int, rng: Rng) -> np.ndarray:
    """float32 [h w] from -1 to 1 in a random direction, more often along the word."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    x = np.linspace(-np.cos(angle), np.cos(angle), width, dtype=np.float32)
    y = np.linspace(-np.sin(angle), np.sin(angle), height, dtype=np.float32)
    slope = x[None, :] + y[:, None]
    return slope / np.float32(abs(np.cos(angle)) + abs(np.sin(angle)))


def light(image: np.ndarray, style: Style, rng: Rng) -> None:
    """Uneven light, glare and exposure, in place."""
    height, width = image.shape[:2]
    if rng.chance(style.light_share):
        fall = rng.uniform(*style.light)
        image *= (1.0 - np.float32(0.5 * fall) * (1.0 + ramp(height, width, rng)))[..., None]
    if rng.chance(style.glare_share):
        x = np.arange(width, dtype=np.float32)[None, :] - rng.uniform(0, width)
        y = np.arange(height, dtype=np.float32)[:, None] - rng.uniform(0, height)
        spread = rng.uniform(0.3, 0.9) * height
        spot = np.exp(-(x * x + y * y) / np.float32(2 * spread * spread))
        image += (spot * np.float32(rng.uniform(40, 140)))[..., None]
    if style.exposure:
        image *= np.float32(np.exp(rng.normal(0.0, style.exposure)))


def photograph(image: np.ndarray, style: Style, rng: Rng, letter: float, room: float) -> np.ndarray:
    """Blur, low resolution, noise, sharpening and JPEG: uint8 [h w c].

    Small letters (height in pixels) stand less blur, pale ones (`room` grey levels between them and
    the background) less noise.
    """
    height, width, channels = image.shape
    size = min(1.2, letter / 28.0)
    if rng.chance(style.blur_share):
        low, high = style.blur_pixels
        sigma = (low + (high - low) * rng.random() ** 2) * size
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    if rng.chance(style.motion_share):
        image = cv2.filter2D(image, -1, _motion(style, rng, size))
    small = None
    if rng.chance(style.low_resolution_share):
        share = max(rng.uniform(*style.low_resolution), min(1.0, LEAST_LETTER / letter))
        small = (max(6, round(width * share)), max(9, round(height * share)))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    image = image.reshape(*image.shape[:2], channels)
    if rng.chance(style.noise_share):
        low, high = style.noise
        # pale words are seldom noisy, or nobody would have marked them as words
        strength = min(low + (high - low) * rng.random() ** 2, 0.12 * room + 2.0)
        image = image + rng.noise(image.shape) * np.float32(strength)
    if rng.chance(style.sharpen_share):
        soft = cv2.GaussianBlur(image, (0, 0), 1.0).reshape(image.shape)
        image = image + np.float32(rng.uniform(0.3, 1.5)) * (image - soft)
    result: np.ndarray = np.clip(image + 0.5, 0.0, 255.0).astype(np.uint8)
    if rng.chance(style.jpeg_share):
        result = jpeg(result, rng.integer(*style.jpeg_quality))
    if small is not None:
        way = cv2.INTER_CUBIC if rng.chance(0.4) else cv2.INTER_LINEAR
        result = cv2.resize(result, (width, height), interpolation=way)
    return np.ascontiguousarray(result.reshape(height, width, channels))


def _motion(style: Style, rng: Rng, size: float) -> np.ndarray:
    """A line of the length and direction of the camera's movement, sum 1."""
    length = 1.0 + (rng.uniform(*style.motion_pixels) - 1.0) * size
    half = int(np.ceil(length / 2))
    angle = rng.uniform(0.0, np.pi)
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    end = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    points = [tuple(int(v) for v in np.round((half + s * end) * 16)) for s in (-1, 1)]
    cv2.line(kernel, points[0], points[1], 1.0, 1, cv2.LINE_AA, 4)
    return kernel / max(kernel.sum(), 1e-6)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """uint8 [h w c] through JPEG of this quality."""
    # to OpenCV's order of colours and back; grey has only one
    _, code = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(code, cv2.IMREAD_UNCHANGED)).reshape(image.shape)
    return np.ascontiguousarray(decoded[..., ::-1])
