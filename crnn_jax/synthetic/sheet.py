"""A contact sheet: many samples with their labels in one picture, to look at a style."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crnn_jax.core.errors import UserError
from crnn_jax.synthetic.source import SyntheticSource

WIDTH = 1200  # pixels
ROW = 40  # pixels of a picture on the sheet
CAPTION = 14  # pixels below it
GAP = 4


def contact_sheet(source: SyntheticSource, ids: Iterable[int]) -> Image.Image:
    """The pictures of these samples side by side, each above its label."""
    font = ImageFont.load_default(11)
    placed = []
    x = y = 0
    for i in ids:
        picture = Image.fromarray(source.draw(i).squeeze()).convert("RGB")
        width = max(8, min(WIDTH, round(picture.width * ROW / picture.height)))
        text = source.text(i)
        taken = max(width, int(font.getlength(text)) + 1)
        if x and x + taken > WIDTH:
            x, y = 0, y + ROW + CAPTION + GAP
        placed.append((picture.resize((width, ROW)), text, x, y))
        x += taken + GAP
    sheet = Image.new("RGB", (WIDTH, y + ROW + CAPTION), "white")
    draw = ImageDraw.Draw(sheet)
    for picture, text, left, top in placed:
        sheet.paste(picture, (left, top))
        draw.text((left, top + ROW), text, "black", font)
    return sheet


def save_picture(path: Path, picture: np.ndarray | Image.Image, quality: int = 95) -> None:
    """Writes uint8 [h w c] or a Pillow picture in the format of its suffix.

    Raises:
        UserError: the place cannot be written, or the suffix is no picture's.
    """
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    try:
        encoded = io.BytesIO()
        picture.save(encoded, Image.registered_extensions()[path.suffix.lower()], quality=quality)
        # Written by Pillow, a picture is cut short in silence where the disk takes no more of it.
        path.write_bytes(encoded.getvalue())
    except KeyError:
        raise UserError(f"{path}: cannot be written: {path.suffix!r} is no picture's") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
