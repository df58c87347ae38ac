"""Fonts to an atlas: every face drawn, checked, without doubles, and kept in a cache.

Synopsis:
    path = open_atlas("auto", characters_for(charset.characters, charset.ignore_case))
    atlas = load_atlas(path)
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import string
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import PIL

from crnn_jax.core.errors import UserError
from crnn_jax.synthetic.atlas import SUFFIX, Atlas, save_atlas
from crnn_jax.synthetic.fonts import BUILTIN, Face, find_faces
from crnn_jax.synthetic.glyphs import CAP, Glyphs, draw_face
from crnn_jax.synthetic.readable import COMPARED, readable_columns, score

VERSION = 4  # of drawing and check: another number, and atlases are made anew
MANY = 20  # faces from which on people are told that this takes a while


def characters_for(symbols: Iterable[str], ignore_case: bool) -> tuple[str, ...]:
    """The columns an atlas needs: printable ASCII, the table's characters, both their cases."""
    wanted = set(string.ascii_letters + string.digits + string.punctuation)
    for symbol in symbols:
        cases = (symbol, symbol.upper(), symbol.lower()) if ignore_case else (symbol,)
        wanted.update(c for c in cases if len(c) == 1 and not c.isspace())
    return tuple(sorted(wanted))


def open_atlas(fonts: str, characters: tuple[str, ...], cache: str = "auto") -> Path:
    """The file with the atlas of these fonts, made where it is missing.

    Args:
        fonts: see `find_faces`; or an atlas file made before.
        characters: what the faces should draw.
        cache: folder for the atlas; 'auto': crnn_jax in the user's cache, or where that cannot be
            written a temporary folder, for this process.

    Returns:
        Path of the file, for `load_atlas`.

    Raises:
        UserError: no font, no such atlas, or it cannot be written.
    """
    if fonts.endswith(SUFFIX):
        if not Path(fonts).is_file():
            raise UserError(f"fonts {fonts!r}: no such file")
        return Path(fonts)
    faces = find_faces(fonts)
    stamps = [face.stamp() for face in faces]
    key = hashlib.sha256(
        repr((VERSION, PIL.__version__, CAP, characters, stamps)).encode()
    ).hexdigest()[:24]
    folder = _cache_folder(cache)
    path = folder / f"{key}{SUFFIX}"
    if path.is_file():
        return path
    if len(faces) > MANY:
        print(f"fonts: drawing {len(faces)} faces, once (kept in {folder})", file=sys.stderr)
    atlas = build_atlas(faces, characters)
    try:
        save_atlas(path, atlas)
    except UserError:
        if cache != "auto":
            raise
        path = _temporary_folder() / path.name
        save_atlas(path, atlas)
    if len(faces) > 1:
        print(f"fonts: {len(atlas.faces)} of {len(faces)} can be read", file=sys.stderr)
    elif faces[0].path == BUILTIN:
        print("fonts: none installed, drawing with the one inside Pillow", file=sys.stderr)
    return path


def _cache_folder(cache: str) -> Path:
    if cache != "auto":
        folder = Path(cache).expanduser()
    else:
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        folder = Path(home).expanduser() / "crnn_jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return _temporary_folder()


def _temporary_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="crnn_jax_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def build_atlas(faces: list[Face], characters: tuple[str, ...]) -> Atlas:
    """Draws and checks every face; those that draw nothing readably are left out.

    Raises:
        UserError: none is left.
    """
    kept: dict[bytes, tuple[Face, Glyphs, np.ndarray, float]] = {}
    compared = [n for n, symbol in enumerate(characters) if symbol in COMPARED]
    for face in faces:
        glyphs = draw_face(face, characters)
        if glyphs is None:
            continue
        legibility = score(characters, glyphs.masks)
        usable = readable_columns(characters, glyphs.masks, glyphs.box, legibility)
        # the same letters come in many files: of one of them, and with every script of the world
        print_of = b"".join(glyphs.masks[n].tobytes() for n in compared)
        print_of = hashlib.sha256(print_of or repr(face).encode()).digest()
        before = kept.get(print_of)
        if usable.any() and (before is None or before[2].sum() < usable.sum()):
            kept[print_of] = (face, glyphs, usable, legibility)
    if not kept:
        raise UserError("fonts: none of them draws the characters readably")
    found = list(kept.values())
    families = {
        name: n for n, name in enumerate(sorted({g.family for _, g, _, _ in kept.values()}))
    }
    sizes = np.array([[m.size for m in g.masks] for _, g, _, _ in found], np.int64)
    ends = np.cumsum(sizes).reshape(sizes.shape)
    return Atlas(
        characters=characters,
        faces=tuple(f"{Path(f.path).name}#{f.number}" for f, _, _, _ in found),
        family=np.array([families[g.family] for _, g, _, _ in found], np.int32),
        score=np.array([legibility for _, _, _, legibility in found], np.float32),
        usable=np.stack([usable for _, _, usable, _ in found]),
        box=np.stack([g.box for _, g, _, _ in found]),
        advance=np.stack([g.advance for _, g, _, _ in found]),
        start=ends - sizes,
        ink=np.concatenate([m.ravel() for _, g, _, _ in found for m in g.masks]),
    )
