"""Fonts to an atlas: what is found, what people can read of it, and what is kept."""

import os
import pwd
import string

import numpy as np
import pytest
from PIL import ImageFont

from crnn_jax.core.errors import UserError
from crnn_jax.synthetic import fonts
from crnn_jax.synthetic.atlas import load_atlas, open_atlas
from crnn_jax.synthetic.fonts import (
    BUILTIN,
    LEAST_SCORE,
    Face,
    draw_face,
    find_faces,
    readable_columns,
    score,
)

CHARACTERS = tuple(sorted(string.ascii_letters + string.digits + "!"))
LOWER, UPPER = set(string.ascii_lowercase), set(string.ascii_uppercase)


def usable(face):
    drawn = draw_face(face, CHARACTERS)
    columns = readable_columns(CHARACTERS, drawn, score(CHARACTERS, drawn.masks))
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


@pytest.mark.parametrize(
    ("table", "lost"),
    [
        ({}, set()),
        (dict.fromkeys([*LOWER, "!"], fonts.TOFU), LOWER | {"!"}),  # boxes for missing letters
        (dict.fromkeys(string.digits, " "), set(string.digits)),
        ({"q": " "}, LOWER),  # one letter missing spoils its alphabet
        ({c: c.upper() for c in LOWER}, LOWER),  # capitals in the place of lower case
    ],
)
def test_what_can_be_read_of_a_face(table, lost):
    assert usable(Swapped(table)) == set(CHARACTERS) - lost


@pytest.mark.parametrize(
    ("table", "good"),
    [
        ({"é": "8"}, True),  # anything that is no e stands for an accented one
        ({"é": "e"}, False),  # the accent is missing
        ({"é": "8", "q": " "}, False),  # no lower case
    ],
)
def test_accented_letters_are_as_good_as_their_base(table, good):
    characters = (*CHARACTERS, "é")
    drawn = draw_face(Swapped(table), characters)
    columns = readable_columns(characters, drawn, score(characters, drawn.masks))
    assert columns[-1] == good


def test_a_dingbat_font_is_rejected():
    """Letters in the wrong places: well drawn, and of no use. H stays, sizes are taken from it."""
    letters = [c for c in CHARACTERS if c not in "H!"]
    shuffled = np.random.default_rng(0).permutation(letters)
    face = Swapped(dict(zip(letters, shuffled.tolist(), strict=True)))
    assert score(CHARACTERS, draw_face(face, CHARACTERS).masks) < LEAST_SCORE
    assert usable(face) == set()


def test_faces_of_a_folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "A.TTF").write_bytes(b"no font")
    (tmp_path / "b.txt").write_text("no font")
    os.mkfifo(tmp_path / "pipe.ttf")
    (tmp_path / "loop.ttf").symlink_to("loop.ttf")
    (tmp_path / "round").symlink_to(".")
    assert [f.path for f in find_faces(str(tmp_path))] == [str(tmp_path / "sub" / "A.TTF")]
    with pytest.raises(UserError, match="none of them"):  # it is there, but cannot be opened
        open_atlas(str(tmp_path), CHARACTERS, str(tmp_path))
    system = [f.path for f in find_faces("auto") if f.path != BUILTIN]
    found = [f.path for f in find_faces(f"auto,{tmp_path}")]
    assert found == [*system, str(tmp_path / "sub" / "A.TTF")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        find_faces(str(tmp_path / "empty"))
    assert fonts.family_of(Swapped({}).open(20)) == "swapped"


def test_a_user_without_a_home_has_the_systems_fonts(monkeypatch):
    system = find_faces("auto")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert find_faces("auto") == system


def test_the_cache_notices_another_font_file(tmp_path):
    font = ImageFont.load_default(20).font_bytes
    file = tmp_path / "font.ttf"
    file.write_bytes(font)
    first = open_atlas(str(file), CHARACTERS, str(tmp_path))
    assert open_atlas(str(file), CHARACTERS, str(tmp_path)) == first
    file.write_bytes(font + b"\0")
    assert open_atlas(str(file), CHARACTERS, str(tmp_path)) != first


def test_a_kept_atlas_holds_what_was_drawn(tmp_path, capsys):
    path = open_atlas(BUILTIN, CHARACTERS, str(tmp_path))
    assert "none installed" in capsys.readouterr().err  # said once, when it is made
    assert open_atlas(BUILTIN, CHARACTERS, str(tmp_path)) == path
    assert capsys.readouterr().err == ""
    kept = load_atlas(path)
    drawn = draw_face(Face(BUILTIN), CHARACTERS)
    for column, mask in enumerate(drawn.masks):
        np.testing.assert_array_equal(kept.mask(0, column), mask)
    np.testing.assert_array_equal(kept.box[0], drawn.box)
    assert abs(kept.mask(0, kept.column_of["H"]).shape[0] - fonts.CAP) <= 1
    assert open_atlas(str(path), ()) == path  # an atlas may be named instead of fonts
    for size in (0, 1000):
        (tmp_path / "cut.glyphs.npz").write_bytes(path.read_bytes()[:size])
        with pytest.raises(UserError, match=r"cut\.glyphs\.npz: not a glyph atlas"):
            load_atlas(tmp_path / "cut.glyphs.npz")
