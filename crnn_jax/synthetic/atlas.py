"""The glyphs of every readable face as pixels, made once and memory-mapped by every worker.

Opening a font and drawing eight letters takes Pillow about a millisecond; taking them from an
atlas takes some microseconds. Every face is drawn at the size where its H is CAP pixels high.

Synopsis:
    atlas = load_atlas(open_atlas("auto", characters, cache="auto"))
    mask = atlas.mask(face, column)     # uint8 [h w]
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import whole_file

SUFFIX = ".glyphs.npz"


@dataclass
class Atlas:
    """Glyphs of all faces.

    Attributes:
        characters: the columns.
        faces: path and number of each face, for people.
        family: int32 [f], faces of one family share a number.
        score: float32 [f], share of its letters that look like the usual ones (0 to 1).
        usable: bool [f c], the face draws the character readably.
        box: int16 [f c 4]: left, top above the baseline, width, height in pixels.
        advance: float32 [f c] pixels.
        start: int64 [f c] into ink.
        ink: uint8 [n], all masks, row by row.
    """

    characters: tuple[str, ...]
    faces: tuple[str, ...]
    family: np.ndarray
    score: np.ndarray
    usable: np.ndarray
    box: np.ndarray
    advance: np.ndarray
    start: np.ndarray
    ink: np.ndarray

    @functools.cached_property
    def column_of(self) -> dict[str, int]:
        """Character -> column."""
        return {symbol: n for n, symbol in enumerate(self.characters)}

    def metrics(self, face: int) -> tuple[list[list[int]], list[float]]:
        """Boxes and advances of one face as lists: layouts are made with plain arithmetic."""
        found = self._metrics.get(face)
        if found is None:
            found = self.box[face].tolist(), self.advance[face].tolist()
            self._metrics[face] = found
        return found

    @functools.cached_property
    def _metrics(self) -> dict[int, tuple[list[list[int]], list[float]]]:
        return {}

    def joined(self, face: int) -> bool:
        """The lower-case letters reach over to each other, as in handwriting."""
        found = self._joined.get(face)
        if found is None:
            boxes, advances = self.metrics(face)
            columns = [n for n, c in enumerate(self.characters) if c in "aceimnu"]
            over = [boxes[n][0] + boxes[n][2] - advances[n] for n in columns if boxes[n][2]]
            found = self._joined[face] = bool(over) and float(np.median(over)) >= 0.0
        return found

    @functools.cached_property
    def _joined(self) -> dict[int, bool]:
        return {}

    def mask(self, face: int, column: int) -> np.ndarray:
        """uint8 [h w], the glyph's coverage."""
        _, _, width, height = self.metrics(face)[0][column]
        start = int(self.start[face, column])
        return self.ink[start : start + width * height].reshape(height, width)


_ARRAYS = ("family", "score", "usable", "box", "advance", "start", "ink")


def save_atlas(path: Path, atlas: Atlas) -> None:
    """Writes an uncompressed .npz, whole, so that no reader sees half a file."""
    with whole_file(path, "wb") as file:
        np.savez(
            file,
            characters=np.array(atlas.characters),
            faces=np.array(atlas.faces),
            **{name: getattr(atlas, name) for name in _ARRAYS},
        )


def load_atlas(path: Path) -> Atlas:
    """Opens an atlas; the ink stays on the disk and is shared by all processes that map it.

    Raises:
        UserError: it is no atlas.
    """
    try:
        with np.load(path) as file:
            parts = {name: file[name] for name in _ARRAYS if name != "ink"}
            characters, faces = tuple(file["characters"].tolist()), tuple(file["faces"].tolist())
            ink = _map_member(path, file.zip.getinfo("ink.npy").header_offset)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a glyph atlas ({error})") from error
    return Atlas(characters, faces, **parts, ink=ink)


def _map_member(path: Path, offset: int) -> np.ndarray:
    """Maps an array stored uncompressed inside a zip file, which np.load would read whole."""
    with open(path, "rb") as file:
        file.seek(offset)
        header = file.read(30)  # zip's local header ends with the lengths of name and extra field
        name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        file.seek(offset + 30 + name + extra)
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        # a plain view: slicing a memmap object costs more than the letter that is cut out
        return np.memmap(path, dtype, "r", file.tell(), shape).view(np.ndarray)
