import functools
import json
import math
import os
import pathlib
import re
import shutil

import pytest
from PIL import Image

from crnn_jax import demo
from crnn_jax.data.files import FileSource
from crnn_jax.reading.recognizer import Recognizer
from tests.testdata.tiny_model import noise_pictures, write_tiny_model

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three pictures and a text."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, picture in zip(("b.png", "a.jpg", "c.PNG"), noise_pictures(3), strict=True):
        Image.fromarray(picture).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def call(run):
    return functools.partial(run, demo)


def test_a_line_a_picture_in_the_order_of_names(call, folder, model):
    code, out, err = call(folder, "-m", model)
    assert code == 0
    paths = [str(folder / name) for name in ("a.jpg", "b.png", "c.PNG")]
    reader = Recognizer.load(model)
    greedy, beam = reader.read(paths), reader.read(paths, "beam")
    assert out == [
        f"Path: {path}, greedy: {g.text}, beam search: {b.text}, probability: {b.confidence:.3f}"
        for path, g, b in zip(paths, greedy, beam, strict=True)
    ]
    assert err == []


def test_json_lines_in_a_file(call, folder, model, tmp_path):
    code, out, _ = call(
        *(folder / "b.png", "-m", model, "--decoder", "greedy", "--json", "-o", tmp_path / "o")
    )
    assert out == []
    (record,) = map(json.loads, (tmp_path / "o").read_text().splitlines())
    reading = Recognizer.load(model).read(folder / "b.png")[0]
    assert code == 0
    assert (record["path"], record["text"]) == (str(folder / "b.png"), reading.text)
    assert record["confidence"] == pytest.approx(reading.confidence)
    assert record["decoder"] == "greedy"
    assert "".join(c["text"] for c in record["characters"]) == reading.text
    assert record["characters"][0].keys() == {"text", "confidence", "x0", "x1"}
    words = ("-m", model, folder / "b.png", "--top_paths", 3, "--json", folder / "c.PNG")
    first, _ = map(json.loads, call(*words)[1])  # a flag between images; both decoders
    assert (first["decoder"], first["greedy"]) == ("beam", reading.text)
    assert len(first["alternatives"]) == 2
    (line,) = call("-m", model, folder / "b.png", "--decoder", "beam", "--top_paths", 3)[1]
    for text, log_prob in first["alternatives"]:
        assert f"{text} {math.exp(log_prob):.3f}" in line.partition("alternatives: ")[2]


def test_words_that_cannot_be_read_are_counted(call, folder, model, tmp_path):
    (tmp_path / "words.txt").write_text("abc\nà la\n123\n")
    words = (folder / "b.png", "-m", model, "--lexicon", tmp_path / "words.txt")
    told = f"{tmp_path / 'words.txt'}: {{}} of 3 words left out: characters outside {{}}"
    assert call(*words)[2] == [told.format(1, "the table")]
    assert call(*words, "--characters", "12345")[2] == [told.format(2, "--characters")]


def test_names_that_are_not_utf_8(call, folder, model, tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"\xff.png")
    for copy in (path, tmp_path / "a.png"):
        shutil.copy(folder / "b.png", copy)
    for flags in ((), ("--json",)):
        assert call(tmp_path, "-m", model, *flags, "-o", tmp_path / "o")[0] == 0
    records = map(json.loads, (tmp_path / "o").read_text().splitlines())
    assert [record["path"] for record in records] == [f"{tmp_path}/a.png", os.fsdecode(path)]


def test_views_as_the_model_states_or_the_flags_say(call, folder, model, tmp_path):
    stated = write_tiny_model(tmp_path / "views.safetensors", views=True)
    paths = [str(folder / name) for name in ("a.jpg", "b.png", "c.PNG")]
    words = (folder, "--decoder", "greedy", "--json")
    reader = Recognizer.load(model)
    wanted = [
        [reading.to_json() for reading in reader.read(paths, views=views)]
        for views in (False, True)
    ]
    assert wanted[0] != wanted[1]
    for name, flags, views in (
        (model, (), False),
        (model, ("--views",), True),
        (stated, (), True),
        (stated, ("--no-views",), False),
    ):
        found = list(map(json.loads, call(*words, "-m", name, *flags)[1]))
        for record, want in zip(found, wanted[views], strict=True):
            assert (record["text"], record["angle"]) == (want["text"], want["angle"])


def test_the_rest_is_read_beside_bad_pictures(call, folder, model, tmp_path):
    (bad := tmp_path / "bad.png").write_bytes(b"no picture")
    code, out, err = call(bad, folder / "b.png", tmp_path / "none.png", "-m", model)
    assert code == 2
    assert len(out) == 1
    assert err == [f"error: {bad}: not an image", f"error: {tmp_path / 'none.png'}: missing file"]


def test_flags_of_crnn_tf2(call, folder, model):
    plain = call(folder / "b.png", "-m", model)
    words = ("-i", folder / "b.png", "-t", "table.txt", "-m", model, "-w", 100, "-b", 3)
    code, out, err = call(*words)
    assert (code, out) == plain[:2]
    assert [line.split(" is ")[0] for line in err] == ["note: -t", "note: -w", "note: -b"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "which images"),
        (
            "F/b.png -m T/none",
            "none: no such model file or workdir; models that ship: en_36, lines",
        ),
        ("F/b.png -m F", "a folder without checkpoints"),
        ("F/b.png -m F/notes.txt", "notes.txt: no safetensors file"),
        ("T -m M", "no images in this folder"),
        ("F/b.png -m M --nonsense", "--nonsense"),
        ("F -m M --write_annotations F/notes.txt", "is there already"),
        ("F/b.png -m M --decoder magic", "greedy, beam, both"),
        ("F/b.png -m M --top_paths 11", "--top-paths 11"),
        ("F/b.png -m M --lexicon T/no", "no: cannot be read"),
        ("F/b.png -m M -o T/no/x", "cannot be written"),
        ("F/b.png -m M --write_annotations T/new -o T/no/x", "cannot be written"),
        ("F/b.png -m M --min_confidence 0.9", "--write-annotations"),
        ("F -m M --write_annotations T/x --min_confidence 95", "want 0 to 1"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(call, folder, model, tmp_path, words, message):
    names = {"F": str(folder), "M": model, "T": str(tmp_path)}
    words = [re.sub(r"^[FMT]\b", lambda m: names[m[0]], word) for word in words.split()]
    code, out, (line,) = call(*words)
    assert (code, out) == (2, [])
    assert message in line
    assert list(tmp_path.iterdir()) == []  # nothing that would stop the corrected command


def test_what_it_read_becomes_an_annotation_file(call, folder, model, tmp_path):
    (folder / "deep").mkdir()
    (folder / "deep" / "broken.png").write_bytes(b"no picture")
    try:
        file = tmp_path / "labels.tsv"
        _, out, _ = call(folder, "-m", model, "--json")
        confidence = sorted(json.loads(line)["confidence"] for line in out)
        limit = (confidence[0] + confidence[1]) / 2
        words = ("--write-annotations", file, "--min-confidence", limit)
        code, again, err = call(folder, "-m", model, "--json", *words)
    finally:
        (folder / "deep" / "broken.png").unlink()
        (folder / "deep").rmdir()
    assert (code, again) == (2, out)  # for the broken one
    assert err[-1] == f"{file}: 2 of 4; left out: 1 below {limit:g}, 1 unreadable"
    read = {json.loads(line)["path"]: json.loads(line)["text"] for line in out}
    source = FileSource(file, Recognizer.load(model).charset)
    assert source.format == "tsv"
    assert len(source) == 2
    for i in range(2):
        assert not os.path.isabs(source.line(i)[0])
        assert source.text(i) == read[os.path.normpath(source.identity(i))]
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "deep")
    call(folder, "-m", model, "--write-annotations", file := tmp_path / "link" / "labels.tsv")
    FileSource(file, Recognizer.load(model).charset).require_images()
