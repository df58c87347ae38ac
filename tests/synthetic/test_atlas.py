import string
import tempfile

import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.synthetic import collect
from crnn_jax.synthetic.atlas import load_atlas, save_atlas
from crnn_jax.synthetic.collect import characters_for, open_atlas
from crnn_jax.synthetic.fonts import BUILTIN, Face
from crnn_jax.synthetic.glyphs import CAP, draw_face

CHARACTERS = characters_for("abc", ignore_case=True)


def test_a_kept_atlas_holds_what_was_drawn(tmp_path, capsys):
    path = open_atlas(BUILTIN, CHARACTERS, str(tmp_path))
    assert "none installed" in capsys.readouterr().err  # said once, when it is made
    assert open_atlas(BUILTIN, CHARACTERS, str(tmp_path)) == path
    assert capsys.readouterr().err == ""
    atlas = load_atlas(path)
    drawn = draw_face(Face(BUILTIN), CHARACTERS)
    for column, mask in enumerate(drawn.masks):
        np.testing.assert_array_equal(atlas.mask(0, column), mask)
    np.testing.assert_array_equal(atlas.box[0], drawn.box)
    assert abs(atlas.mask(0, atlas.column_of["H"]).shape[0] - CAP) <= 1
    assert open_atlas(str(path), ()) == path  # an atlas may be named instead of fonts


def test_characters_of_a_table():
    assert set(string.ascii_letters + string.digits + string.punctuation) <= set(CHARACTERS)
    assert {"\u00e9", "\u00c9"} <= set(characters_for("\u00e9", ignore_case=True))
    assert "\u00c9" not in characters_for("\u00e9", ignore_case=False)
    assert " " not in characters_for(" a", ignore_case=False)


def test_a_broken_atlas_is_told(tmp_path):
    file = tmp_path / "x.glyphs.npz"
    with pytest.raises(UserError, match="no such file"):
        open_atlas(str(file), CHARACTERS)
    file.write_bytes(b"PK no zip")
    with pytest.raises(UserError, match="not a glyph atlas"):
        load_atlas(file)


def test_where_the_cache_is_full_a_temporary_folder_serves(monkeypatch, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

    def full(path, atlas):
        if "temporary" not in path.parts:
            raise UserError(f"{path}: cannot be written: No space left on device")
        save_atlas(path, atlas)

    monkeypatch.setattr(collect, "save_atlas", full)
    assert tmp_path / "temporary" in open_atlas(BUILTIN, CHARACTERS).parents
    with pytest.raises(UserError, match="No space left"):
        open_atlas(BUILTIN, CHARACTERS, str(tmp_path))  # a folder that the user has named
