"""Other programs' annotations give the samples that a TSV file of the same labels gives."""

import json

import pytest

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.data.conversions import convert_folder
from crnn_jax.data.files import FileSource
from tests.data.conftest import write_picture

CHARSET = Charset.from_characters("abcdef ,\"'é")
LABELS = {"a.png": "abc", "sub/b c.png": "a, b", "d.png": 'e"f', "e.png": "é d", "f.png": ""}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    for i, name in enumerate(LABELS):
        write_picture(tmp_path / name, 20, 30 + i)
    return tmp_path


def samples(path, **options):
    source = FileSource(str(path), CHARSET, cache=False, **options)
    found = {source.line(i)[0]: source.line(i)[1] for i in range(len(source))}
    return source.format, found, source.sizes(range(len(source))).tolist(), source.usable.tolist()


def test_json(folder):
    (path := folder / "labels.json").write_text(json.dumps(LABELS))
    name, found, sizes, usable = samples(path)
    assert (name, found) == ("json", LABELS)
    assert sizes == [[20, 30 + i] for i in range(5)]
    assert usable == [True] * 4 + [False]
    assert samples(path, format="json")[1] == LABELS
    assert FileSource(str(path), CHARSET, cache=False).where(0) == f"{folder / 'a.png'} 'abc'"


@pytest.mark.parametrize(("mark", "end"), [("", "\n"), ("\ufeff", "\r\n")])
def test_csv(folder, mark, end):
    rows = ["filename,words", "a.png,abc", '"sub/b c.png","a, b"', 'd.png,"e""f"', "e.png,é d"]
    path = folder / "labels.csv"
    path.write_bytes((mark + end.join([*rows, "", "f.png,", ""])).encode())
    assert samples(path)[:2] == ("csv", LABELS)
    path.write_text("a.png,abc\n")  # no header: taken for CSV only if the format says so
    with pytest.raises(UserError, match="has no label"):
        samples(path)
    assert samples(path, format="csv")[1] == {"a.png": "abc"}


def test_texts_beside_images(folder):
    for name, label in LABELS.items():
        if label:
            (folder / name).with_suffix(".gt.txt").write_text(f"{label}\n")
    assert samples(folder)[:2] == ("gt", LABELS)
    assert samples(folder, format="name")[0] == "name"
    (folder / "a.gt.txt").write_text("a\tb\nc\n")
    assert samples(folder)[1]["a.png"] == "a b c"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", "{", "not JSON"),
        ("x.json", '["a.png"]', "one object"),
        ("x.json", '{"a.png": {"text": "a"}}', "one object"),
        ("x.json", '{"a.png": "x\\ud83d"}', "surrogates not allowed"),
        ("x.csv", "filename,words\n\na.png\n", "csv:3: no comma"),
        ("x.csv", "filename,words\n,abc\n", "want PATH"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=rf"x\..*{message}"):
        samples(tmp_path / name)


def test_texts_are_not_looked_for_one_by_one(folder, monkeypatch):
    monkeypatch.setattr("os.path.isfile", None)
    listing = b"a.png\nb.png"
    assert convert_folder(str(folder), listing, "auto") is None
    (folder / "b.gt.txt").write_text("é")
    assert convert_folder(str(folder), listing, "auto") == "a.png\t\nb.png\té\n".encode()


def test_a_csv_line_is_a_sample_whatever_its_quotes(folder):
    rows = ["filename,words", 'a.png,"', "d.png,a, b", 'e.png,"ab" cd', "f.png, a "]
    (path := folder / "labels.csv").write_text("\n".join(rows))
    found = {"a.png": '"', "d.png": "a, b", "e.png": '"ab" cd', "f.png": " a "}
    assert samples(path)[:2] == ("csv", found)


def test_one_text_beside_the_last_of_many_images(folder):
    for i in range(120):
        write_picture(folder / f"{i:03}.png", 20, 30)
    (text := folder / "f.gt.txt").write_text("abc\n")
    name, found, *_, usable = samples(folder)
    assert (name, found["f.png"], sum(usable)) == ("gt", "abc", 1)
    text.write_bytes("é".encode("latin-1"))
    with pytest.raises(UserError, match=r"f\.gt\.txt:1: not UTF-8"):
        samples(folder)
