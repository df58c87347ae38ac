"""Font files, the glyphs of their faces as pixels, and which of these people can read.

No blanks, no boxes, no dingbats, no barcodes: each letter and digit is scaled to one small square
and compared with those of the font inside Pillow, in three weights and three slants. Letters of a
Latin face are mostly nearest to a letter of the same name; other shapes hit by chance.
"""

import functools
import os
import re
import string
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import ImageFont

from crnn_jax.core.errors import UserError

SUFFIXES = (".ttf", ".otf", ".ttc", ".otc", ".woff", ".woff2")
SYSTEM_FOLDERS = {
    "linux": (
        *("/usr/share/fonts", "/usr/local/share/fonts", "/usr/share/texmf/fonts"),
        *("/usr/share/texlive/texmf-dist/fonts", "~/.fonts", "~/.local/share/fonts"),
    ),
    "darwin": ("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"),
    "win32": ("C:/Windows/Fonts", "~/AppData/Local/Microsoft/Windows/Fonts"),
}
BUILTIN = "builtin"  # stands for the font that Pillow carries
MOST_FACES = 64  # in one collection file
CAP = 28  # pixels of an H: words are drawn at about this height, so that little is scaled
TOFU = "\U000f2345"  # a private code point that no face draws: what comes out is its 'missing' box
FAINT = 40  # coverage up to which a row or column counts as empty
SIDE = 16  # pixels of the square in which shapes are compared
LEAST_SCORE = 0.42  # share of letters nearest to their own name; chance is about 0.05
COMPARED = string.ascii_letters + string.digits
LIGATURES = {"ffi": "ﬃ", "ffl": "ﬄ", "ff": "ﬀ", "fi": "ﬁ", "fl": "ﬂ"}  # the longest first
# lower-case letters whose capital looks otherwise: a face that draws both alike has no lower case
UNLIKE_CAPITAL = "abdefghnqrt"
_ALIKE = str.maketrans("01i52j", "ollszl")
# words of a font's name that say how the letters of its family are drawn
_VARIANTS = frozenset(
    (
        "thin", "hairline", "extralight", "ultralight", "light", "book", "regular", "roman",
        "medium", "demi", "demibold", "semibold", "bold", "extrabold", "ultrabold", "black",
        "heavy", "italic", "oblique", "condensed", "cond", "narrow", "extended", "wide",
        "semicondensed", "extracondensed", "compact", "caps", "smallcaps", "sc",
        "osf", "lf", "tosf",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Face:
    """One face of one font file; `path` is 'builtin' for the font inside Pillow."""

    path: str
    number: int = 0

    def open(self, pixels: int) -> ImageFont.FreeTypeFont:
        """The face at a size in pixels per em. Raises OSError where it is no font."""
        if self.path == BUILTIN:
            font = ImageFont.load_default(pixels)
            if not isinstance(font, ImageFont.FreeTypeFont):
                raise OSError("this Pillow was built without FreeType")
            return font
        # BASIC: Raqm may be missing elsewhere, and one glyph at a time needs no shaping
        return ImageFont.truetype(
            self.path, pixels, index=self.number, layout_engine=ImageFont.Layout.BASIC
        )

    def stamp(self) -> str:
        """Path, size and time of the file: what decides whether a check still holds."""
        if self.path == BUILTIN:
            return BUILTIN
        status = os.stat(self.path)
        return f"{self.path}#{self.number}:{status.st_size}:{int(status.st_mtime)}"


def find_faces(fonts: str) -> list[Face]:
    """All faces of 'builtin', or of folders and files joined by commas; 'auto': the system's."""
    if fonts == BUILTIN:
        return [Face(BUILTIN)]
    files = []
    for name in fonts.split(","):
        if name == "auto":
            # not Path's expanduser, which fails for a user without a home
            folders = map(os.path.expanduser, SYSTEM_FOLDERS.get(sys.platform, ()))
            files += sorted(file for folder in folders for file in _font_files(folder))
        elif not (place := Path(os.path.expanduser(name))).exists():
            raise UserError(f"fonts {name!r}: no such folder or file")
        else:
            files += sorted(_font_files(place)) if place.is_dir() else [place]
    faces = _faces(files)
    if not faces and fonts != "auto":
        raise UserError(f"fonts {fonts!r}: no {', '.join(SUFFIXES)} file in it")
    return faces or [Face(BUILTIN)]


def _font_files(folder: str | Path) -> list[Path]:
    return [
        Path(top) / name
        for top, _, names in os.walk(folder)
        for name in names
        # neither a link to nothing nor a pipe, which would be waited for
        if name.lower().endswith(SUFFIXES) and os.path.isfile(os.path.join(top, name))
    ]


def _faces(files: list[Path]) -> list[Face]:
    faces = []
    for file in dict.fromkeys(files):
        faces.append(Face(str(file)))
        if file.suffix.lower() in (".ttc", ".otc"):
            for number in range(1, MOST_FACES):
                try:
                    Face(str(file), number).open(20)
                except OSError:
                    break
                faces.append(Face(str(file), number))
    return faces


def family_of(font: ImageFont.FreeTypeFont) -> str:
    """Two words of its name without weights and widths, to weigh families and not faces."""
    # Noto Sans comes as a hundred families with the same Latin letters.
    name = (font.getname()[0] or "").lower()
    words = [w for w in re.sub(r"[^a-z]+", " ", name).split() if w not in _VARIANTS]
    return " ".join(words[:2]) or name or "unnamed"


@dataclass
class Glyphs:
    """One face: masks and metrics in pixels, columns in the order of the characters asked for."""

    family: str
    masks: list[np.ndarray]  # uint8 [h w], cut to the ink; [0 0] where the face cannot draw it
    box: np.ndarray  # int16 [c 4]: left, top (above the baseline), width, height
    advance: np.ndarray  # float32 [c]


def draw_glyph(font: ImageFont.FreeTypeFont, symbol: str) -> tuple[np.ndarray, int, int]:
    """(uint8 [h w] cut to the ink, [0 0] if none; left from the pen; top above the baseline)."""
    core, (left, down) = font.getmask2(symbol, "L", anchor="ls")
    width, height = core.size
    mask = np.zeros((0, 0), np.uint8)
    if width and height:
        mask = np.frombuffer(bytes(core), np.uint8).reshape(height, width)
    rows = np.flatnonzero(mask.max(1, initial=0) > FAINT)
    columns = np.flatnonzero(mask.max(0, initial=0) > FAINT)
    if not rows.size:
        return np.zeros((0, 0), np.uint8), 0, 0
    mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return mask, left + int(columns[0]), -(down + int(rows[0]))


def draw_face(face: Face, characters: Sequence[str]) -> Glyphs | None:
    """All glyphs of a face at the size where its H is CAP pixels high; None if it has no H."""
    try:
        font = face.open(100)
        tall = draw_glyph(font, "H")[0].shape[0] or draw_glyph(font, "0")[0].shape[0]
        if not 15 <= tall <= 250:
            return None
        font = face.open(max(6, round(100 * CAP / tall)))
        drawn = [draw_glyph(font, c) for c in (*characters, TOFU)]
        advance = np.array([font.getlength(c) for c in characters], np.float32)
    except (OSError, ValueError, MemoryError):
        return None
    tofu = drawn.pop()[0]
    for at, (mask, _, _) in enumerate(drawn):
        if max(mask.shape) > 6 * CAP or np.array_equal(mask, tofu):
            drawn[at] = (np.zeros((0, 0), np.uint8), 0, 0)
    box = [(left, top, mask.shape[1], mask.shape[0]) for mask, left, top in drawn]
    return Glyphs(family_of(font), [d[0] for d in drawn], np.array(box, np.int16), advance)


def _shape(mask: np.ndarray) -> np.ndarray:
    """float32 [SIDE * SIDE + 1] of unit length: the glyph scaled to a square, and its aspect."""
    height, width = mask.shape
    square = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(square.astype(np.float32), (0, 0), 1.0).ravel()
    blurred = blurred - blurred.mean()
    blurred = blurred / (np.linalg.norm(blurred) + 1e-6)
    # narrow letters scaled to a square are all alike: their aspect tells i from m
    aspect = 0.5 * np.log2(np.clip(width / height, 0.1, 4.0))
    return np.append(blurred, np.float32(0.4 * aspect))


@functools.cache
def _reference() -> tuple[np.ndarray, np.ndarray]:
    """Shapes float32 [n d] of the reference letters, and the index in COMPARED of each."""
    font = Face(BUILTIN).open(56)
    shapes, names = [], []
    for at, symbol in enumerate(COMPARED):
        mask = draw_glyph(font, symbol)[0]
        mask = cv2.copyMakeBorder(mask, 4, 4, 18, 18, cv2.BORDER_CONSTANT, value=0)
        for grow in (0, 5, 9):
            for slant in (0.0, -0.2, -0.4):
                shear = np.array([[1, slant, -slant * mask.shape[0] / 2], [0, 1, 0]], np.float32)
                other = cv2.warpAffine(mask, shear, mask.shape[::-1])
                if grow:
                    other = cv2.dilate(other, np.ones((grow, grow), np.uint8))
                x, y, width, height = cv2.boundingRect(other)  # of the ink
                shapes.append(_shape(other[y : y + height, x : x + width]))
                names.append(at)
    return np.stack(shapes), np.array(names)


def score(characters: Sequence[str], masks: list[np.ndarray]) -> float:
    """Share of the letters and digits drawn that are nearest to their own name, case aside.

    1.0 where the face draws none of them: it is for another script.
    """
    shapes, names = _reference()
    hits, count = 0, 0
    for symbol, mask in zip(characters, masks, strict=True):
        if symbol not in COMPARED or not mask.size:
            continue
        count += 1
        nearest = COMPARED[names[int(np.argmin(((shapes - _shape(mask)) ** 2).sum(1)))]]
        hits += nearest.lower().translate(_ALIKE) == symbol.lower().translate(_ALIKE)
    return hits / count if count >= 5 else (1.0 if count == 0 else 0.0)


def readable_columns(characters: Sequence[str], glyphs: Glyphs, legibility: float) -> np.ndarray:
    """bool [c]: the face, of this `score`, draws the character so that it can be read."""
    masks = glyphs.masks
    usable = np.array([bool(mask.size) for mask in masks])
    at = {symbol: n for n, symbol in enumerate(characters)}
    compared = [n for symbol, n in at.items() if symbol in COMPARED and usable[n]]
    if compared:
        ink = np.median([masks[n].mean() / 255.0 for n in compared])
        height = glyphs.box[compared, 3]
        different = len({masks[n].tobytes() for n in compared})
        if (
            not 0.06 <= ink <= 0.85  # hairlines, nearly solid blocks
            or height.max() > 4 * np.median(height)  # letters that tower over each other
            or legibility < LEAST_SCORE
            or different < 0.4 * len(compared)
        ):
            return np.zeros_like(usable)
    for group in (string.ascii_uppercase, string.ascii_lowercase, string.digits):
        columns = [at[c] for c in group if c in at]
        if not usable[columns].all():  # initials, swash alternates
            usable[columns] = False
    pairs = [(at[c], at[c.upper()]) for c in UNLIKE_CAPITAL if c in at and c.upper() in at]
    alike = [
        ((_shape(masks[low]) - _shape(masks[high])) ** 2).sum() < 0.15
        for low, high in pairs
        if usable[low] and usable[high]
    ]
    if alike and np.mean(alike) > 0.5:  # capitals in the place of lower case: not lower case
        usable[[n for c, n in at.items() if c.islower()]] = False
    for symbol, n in at.items():  # an accented letter is as good as its base, and is not the base
        base = at.get(unicodedata.normalize("NFD", symbol)[0], n)
        usable[n] &= n == base or (usable[base] and not np.array_equal(masks[n], masks[base]))
    return usable
