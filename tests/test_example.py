"""The files in example/ agree with each other and with the code that made them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crnn_jax import synthesize
from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.data.files import FileSource
from crnn_jax.reading.loaded_model import open_model
from crnn_jax.reading.recognizer import Recognizer

ANNOTATIONS = {
    "mjsynth_annotation.txt": "mjsynth",
    "icdar2013_annotation.txt": "icdar",
    "simple_annotation.txt": "simple",
    "tsv_annotation.tsv": "tsv",
}


@pytest.fixture
def example():
    return Path(__file__).parents[1] / "example"


def labels(example):
    pictures = sorted((example / "images").iterdir())
    return [path.name.split("_")[1] for path in pictures]


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_every_format_names_every_picture(example, name):
    charset = Charset.read(example / "table.txt", ignore_case=True)
    source = FileSource(str(example / name), charset)
    assert source.format == ANNOTATIONS[name]
    assert [source.text(i) for i in range(len(source))] == [t.lower() for t in labels(example)]
    assert source.usable.all()
    pictures = source.read(np.arange(len(source)))
    assert all(isinstance(picture, np.ndarray) for picture in pictures)


def test_the_pictures_are_what_the_command_draws(example, tmp_path, monkeypatch):
    """If this fails the renderer has changed: make them anew as example/README.md says."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    readme = (example / "README.md").read_text("utf-8")
    command = readme.split("python -m crnn_jax.synthesize")[1].split("```")[0]
    flags = command.replace("\\\n", " ").split()
    flags[flags.index("-o") + 1] = str(tmp_path / "words")
    synthesize.main(flags)
    drawn = sorted((tmp_path / "words").glob("*.jpg"))
    stored = sorted((example / "images").iterdir())
    assert [path.name for path in drawn] == [path.name for path in stored]
    for ours, theirs in zip(drawn, stored, strict=True):
        with Image.open(ours) as a, Image.open(theirs) as b:
            apart = np.abs(np.asarray(a, np.int16) - np.asarray(b, np.int16))
        # another libjpeg or processor rounds otherwise
        assert apart.max() <= 3


@pytest.mark.slow
@pytest.mark.parametrize(("name", "change"), [("en_36", str.lower), ("lines", str)])
def test_the_models_that_ship_read_every_picture(example, name, change):
    readings = Recognizer.load(name).read(sorted((example / "images").iterdir()))
    assert [reading.text for reading in readings] == list(map(change, labels(example)))


def test_a_folder_of_a_models_name_does_not_hide_it(tmp_path, monkeypatch):
    (tmp_path / "lines").mkdir()
    monkeypatch.chdir(tmp_path)
    assert " " in open_model("lines")[1]["charset"]
    (tmp_path / "lines" / "checkpoints").mkdir()  # a run's folder is meant
    with pytest.raises(UserError):
        open_model("lines")
