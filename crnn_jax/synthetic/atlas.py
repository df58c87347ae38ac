"""The glyphs of every readable face as pixels, made once, cached and memory-mapped by every worker.

Opening a font and drawing eight letters takes Pillow about a millisecond; taking them from an
atlas takes some microseconds. Every face is drawn at the size where its H is CAP pixels high.
"""

import atexit
import contextlib
import functools
import hashlib
import shutil
import string
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import PIL

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import user_cache, whole_file
from crnn_jax.data.source import progress_bar
from crnn_jax.synthetic.fonts import (
    BUILTIN,
    CAP,
    COMPARED,
    LIGATURES,
    Face,
    Glyphs,
    draw_face,
    find_faces,
    readable_columns,
    score,
)

SUFFIX = ".glyphs.npz"
VERSION = 5  # of drawing and check: another number, and atlases are made anew
KEPT_METRICS = 400_000  # glyphs whose metrics are kept as lists, some 150 bytes each


@dataclass
class Atlas:
    """Glyphs of all faces."""

    characters: tuple[str, ...]  # the columns
    faces: tuple[str, ...]  # path and number of each face, for people
    family: np.ndarray  # int32 [f], faces of one family share a number
    score: np.ndarray  # float32 [f], share of its letters that look like the usual ones (0 to 1)
    usable: np.ndarray  # bool [f c], the face draws the character readably
    box: np.ndarray  # int16 [f c 4]: left, top above the baseline, width, height in pixels
    advance: np.ndarray  # float32 [f c] pixels
    start: np.ndarray  # int64 [f c] into ink
    ink: np.ndarray  # uint8 [n], all masks, row by row

    @functools.cached_property
    def column_of(self) -> dict[str, int]:
        """Character -> column."""
        return {symbol: n for n, symbol in enumerate(self.characters)}

    @functools.cached_property
    def monospaced(self) -> np.ndarray:
        """bool [f]: narrow and wide letters have the same advance."""
        columns = [self.column_of[c] for c in "iMW.0"]
        wide = self.advance[:, columns]
        same = np.ptp(wide, axis=1) < 0.03 * wide.max(1, initial=0.0)
        return np.asarray(same & self.usable[:, columns].all(1))

    def __post_init__(self) -> None:
        kept = KEPT_METRICS // max(1, len(self.characters))
        self.metrics = functools.lru_cache(kept)(self._metrics)  # asked for with every layout
        self.joined = functools.cache(self._joined)

    def _metrics(self, face: int) -> tuple[list[list[int]], list[float]]:
        """Boxes and advances of one face as lists: layouts are made with plain arithmetic."""
        return self.box[face].tolist(), self.advance[face].tolist()

    def _joined(self, face: int) -> bool:
        """The lower-case letters reach over to each other, as in handwriting."""
        boxes, advances = self.metrics(face)
        columns = [n for n, c in enumerate(self.characters) if c in "aceimnu"]
        over = [boxes[n][0] + boxes[n][2] - advances[n] for n in columns if boxes[n][2]]
        return bool(over) and float(np.median(over)) >= 0.0

    def mask(self, face: int, column: int) -> np.ndarray:
        """uint8 [h w], the glyph's coverage."""
        _, _, width, height = self.metrics(face)[0][column]
        start = int(self.start[face, column])
        return self.ink[start : start + width * height].reshape(height, width)


def characters_for(symbols: Iterable[str], ignore_case: bool) -> tuple[str, ...]:
    """Columns an atlas needs: printable ASCII, ligatures, the table's characters in both cases."""
    wanted = {*string.ascii_letters, *string.digits, *string.punctuation, *LIGATURES.values()}
    for symbol in symbols:
        cases = (symbol, symbol.upper(), symbol.lower()) if ignore_case else (symbol,)
        wanted.update(c for c in cases if len(c) == 1 and not c.isspace())
    return tuple(sorted(wanted))


def open_atlas(fonts: str, characters: tuple[str, ...], cache: str = "auto") -> Path:
    """The file with the atlas of these fonts (or an atlas file itself), made where it is missing.

    `cache` is its folder; 'auto': crnn_jax in the user's cache, or where that cannot be written a
    temporary folder, for this process.
    """
    if fonts.endswith(SUFFIX):
        if not Path(fonts).is_file():
            raise UserError(f"fonts {fonts!r}: no such file")
        return Path(fonts)
    faces = find_faces(fonts)
    stamps = [face.stamp() for face in faces]
    parts = (VERSION, PIL.__version__, CAP, characters, stamps)
    name = hashlib.sha256(repr(parts).encode()).hexdigest()[:24] + SUFFIX
    folder = user_cache() if cache == "auto" else Path(cache).expanduser()
    if (folder / name).is_file():
        return folder / name
    atlas = build_atlas(faces, characters)
    try:
        with contextlib.suppress(OSError):  # told by the writing
            folder.mkdir(parents=True, exist_ok=True)
        save_atlas(folder / name, atlas)
    except UserError:
        if cache != "auto":
            raise
        folder = Path(tempfile.mkdtemp(prefix="crnn_jax_"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        save_atlas(folder / name, atlas)
    if len(faces) > 1:
        print(f"fonts: {len(atlas.faces)} of {len(faces)} can be read", file=sys.stderr)
    elif faces[0].path == BUILTIN:
        print("fonts: none installed, drawing with the one inside Pillow", file=sys.stderr)
    return folder / name


def build_atlas(faces: list[Face], characters: tuple[str, ...]) -> Atlas:
    """Draws and checks every face; those that draw nothing readably are left out."""
    kept: dict[bytes, tuple[Face, Glyphs, np.ndarray, np.ndarray, float]] = {}
    compared = [n for n, symbol in enumerate(characters) if symbol in COMPARED]
    with progress_bar("fonts drawn, once", len(faces)) as bar:
        for face in faces:
            bar.update()
            glyphs = draw_face(face, characters)
            if glyphs is None:
                continue
            legibility = score(characters, glyphs.masks)
            usable = readable_columns(characters, glyphs, legibility)
            # the same letters come in many files: one of them, with every script of the world
            letters = b"".join(glyphs.masks[n].tobytes() for n in compared) or repr(face).encode()
            letters = hashlib.sha256(letters).digest()
            before = kept.get(letters)
            if usable.any() and (before is None or before[3].sum() < usable.sum()):
                # one array, not hundreds: with 600 characters that is half of the memory
                ink = np.concatenate([m.ravel() for m in glyphs.masks])
                kept[letters] = (face, replace(glyphs, masks=[]), ink, usable, legibility)
    if not kept:
        raise UserError("fonts: none of them draws the characters readably")
    found, glyphs_of, ink_of, usable_of, scores = zip(*kept.values(), strict=True)
    _, family = np.unique([g.family for g in glyphs_of], return_inverse=True)
    box = np.stack([g.box for g in glyphs_of])
    sizes = box[..., 2].astype(np.int64) * box[..., 3]
    ends = np.cumsum(sizes).reshape(sizes.shape)
    return Atlas(
        characters=characters,
        faces=tuple(f"{Path(f.path).name}#{f.number}" for f in found),
        family=family.astype(np.int32),
        score=np.array(scores, np.float32),
        usable=np.stack(usable_of),
        box=box,
        advance=np.stack([g.advance for g in glyphs_of]),
        start=ends - sizes,
        ink=np.concatenate(ink_of),
    )


def save_atlas(path: Path, atlas: Atlas) -> None:
    """Writes an uncompressed .npz, whole, so that no reader sees half a file."""
    with whole_file(path, "wb") as file:
        np.savez(file, **{f.name: getattr(atlas, f.name) for f in fields(atlas)})


def load_atlas(path: Path) -> Atlas:
    """Opens an atlas; the ink stays on the disk and is shared by all processes that map it."""
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            parts = {f.name: file[f.name] for f in fields(Atlas) if f.name != "ink"}
            parts |= {name: tuple(parts[name].tolist()) for name in ("characters", "faces")}
            return Atlas(**parts, ink=_map_member(path, file.zip.getinfo("ink.npy").header_offset))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a glyph atlas ({error})") from error


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
