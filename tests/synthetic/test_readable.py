import os
import string

import numpy as np
import pytest
from PIL import ImageFont

from crnn_jax.core.errors import UserError
from crnn_jax.synthetic import collect, fonts, glyphs
from crnn_jax.synthetic.fonts import BUILTIN, Face, find_faces
from crnn_jax.synthetic.readable import LEAST_SCORE, readable_columns, score

CHARACTERS = tuple(sorted(string.ascii_letters + string.digits + "!"))


def usable(face):
    drawn = glyphs.draw_face(face, CHARACTERS)
    legibility = score(CHARACTERS, drawn.masks)
    columns = readable_columns(CHARACTERS, drawn.masks, drawn.box, legibility)
    return {c for c, good in zip(CHARACTERS, columns, strict=True) if good}


class Swapped(Face):
    """The built-in font, drawing other symbols than it is asked for."""

    def __init__(self, table):
        super().__init__(BUILTIN)
        object.__setattr__(self, "table", table)

    def open(self, pixels):
        return _Font(super().open(pixels), self.table)


class _Font:
    def __init__(self, font, table):
        self.font, self.table = font, table

    def getmask2(self, symbol, *args, **kwargs):
        return self.font.getmask2(self.table.get(symbol, symbol), *args, **kwargs)

    def getlength(self, symbol):
        return self.font.getlength(self.table.get(symbol, symbol))

    def getname(self):
        return ("Swapped", "Regular")


def test_the_builtin_font_is_readable():
    assert usable(Face(BUILTIN)) == set(CHARACTERS)


def test_boxes_for_missing_letters_are_no_letters():
    missing = Swapped(dict.fromkeys(string.ascii_lowercase + "!", glyphs.TOFU))
    assert usable(missing) == set(string.ascii_uppercase + string.digits)


def test_blank_letters_are_no_letters():
    assert usable(Swapped(dict.fromkeys(string.digits, " "))) == set(CHARACTERS) - set(
        string.digits
    )


def test_one_letter_missing_spoils_its_alphabet():
    assert usable(Swapped({"q": " "})) == set(CHARACTERS) - set(string.ascii_lowercase)


def test_a_dingbat_font_is_rejected():
    """Letters in the wrong places: well drawn, and of no use. H stays, sizes are taken from it."""
    letters = [c for c in CHARACTERS if c not in "H!"]
    shuffled = np.random.default_rng(0).permutation(letters)
    table = dict(zip(letters, shuffled.tolist(), strict=True))
    drawn = glyphs.draw_face(Swapped(table), CHARACTERS)
    assert score(CHARACTERS, drawn.masks) < LEAST_SCORE
    assert usable(Swapped(table)) == set()


def test_capitals_in_place_of_lower_case_are_no_lower_case():
    table = {c: c.upper() for c in string.ascii_lowercase}
    assert usable(Swapped(table)) == set(CHARACTERS) - set(string.ascii_lowercase)


def test_a_font_of_solid_blocks_is_rejected():
    drawn = glyphs.draw_face(Face(BUILTIN), CHARACTERS)
    masks = [np.full_like(m, 255) for m in drawn.masks]
    assert not readable_columns(CHARACTERS, masks, drawn.box, 1.0).any()


def test_no_readable_face_at_all(monkeypatch, tmp_path):
    blank = Swapped(dict.fromkeys((*CHARACTERS, *string.punctuation), " "))
    monkeypatch.setattr(collect, "find_faces", lambda fonts: [blank])
    with pytest.raises(UserError, match="none of them"):
        collect.open_atlas("auto", CHARACTERS, str(tmp_path))


def test_faces_of_a_folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "A.TTF").write_bytes(b"no font")
    (tmp_path / "b.txt").write_text("no font")
    assert [f.path for f in find_faces(str(tmp_path))] == [str(tmp_path / "sub" / "A.TTF")]
    with pytest.raises(UserError, match="none of them"):  # it is there, but cannot be opened
        collect.open_atlas(str(tmp_path), CHARACTERS, str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        find_faces(str(tmp_path / "empty"))


def test_what_is_no_file_is_no_font(tmp_path):
    os.mkfifo(tmp_path / "pipe.ttf")
    (tmp_path / "loop.ttf").symlink_to("loop.ttf")
    (tmp_path / "round").symlink_to(".")
    assert fonts._font_files(tmp_path) == []


def test_the_cache_notices_another_font_file(tmp_path):
    font = ImageFont.load_default(20).font_bytes
    file = tmp_path / "font.ttf"
    file.write_bytes(font)
    first = collect.open_atlas(str(file), CHARACTERS, str(tmp_path))
    assert collect.open_atlas(str(file), CHARACTERS, str(tmp_path)) == first
    file.write_bytes(font + b"\0")
    assert collect.open_atlas(str(file), CHARACTERS, str(tmp_path)) != first
