"""Font files of the system or of a folder, one entry a face.

faces = find_faces("auto")          # the system's font folders
faces = find_faces("my/fonts,/another/font.ttf")
font = faces[0].open(40)            # a Pillow font of 40 pixels
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageFont

from crnn_jax.core.errors import UserError

SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")
SYSTEM_FOLDERS = {
    "linux": (
        "/usr/share/fonts",
        "/usr/local/share/fonts",
        "/usr/share/texmf/fonts",
        "/usr/share/texlive/texmf-dist/fonts",
        "~/.fonts",
        "~/.local/share/fonts",
    ),
    "darwin": ("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"),
    "win32": ("C:/Windows/Fonts", "~/AppData/Local/Microsoft/Windows/Fonts"),
}
BUILTIN = "builtin"  # stands for the font that Pillow carries
MOST_FACES = 64  # in one collection file
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
    """All faces of 'auto', 'builtin', or folders and files joined by commas; sorted by path.

    Raises:
        UserError: a folder or file that is not there, or none of them holds a font.
    """
    if fonts == BUILTIN:
        return [Face(BUILTIN)]
    if fonts == "auto":
        folders = [Path(f).expanduser() for f in SYSTEM_FOLDERS.get(sys.platform, ())]
        files = sorted(file for folder in folders for file in _font_files(folder))
        return _faces(files) or [Face(BUILTIN)]
    files = []
    for name in fonts.split(","):
        place = Path(name).expanduser()
        if not place.exists():
            raise UserError(f"fonts {name!r}: no such folder or file")
        files += sorted(_font_files(place)) if place.is_dir() else [place]
    faces = _faces(files)
    if not faces:
        raise UserError(f"fonts {fonts!r}: no {', '.join(SUFFIXES)} file in it")
    return faces


def _font_files(folder: Path) -> list[Path]:
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
    """The first words of its name without weights and widths, to weigh families and not faces.

    Two words are enough: Noto Sans comes as a hundred families with the same Latin letters.
    """
    name = (font.getname()[0] or "").lower()
    words = [w for w in re.sub(r"[^a-z]+", " ", name).split() if w not in _VARIANTS]
    return " ".join(words[:2]) or name or "unnamed"
