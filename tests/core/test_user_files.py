"""What a name may turn out to stand for: every reader of a user's files goes through here."""

import os
import threading

import pytest

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import LONGEST, UserError
from crnn_jax.core.images import UnreadableImage, decode_image
from crnn_jax.core.model_file import load_model
from crnn_jax.core.user_files import open_file, text_lines
from crnn_jax.importing.import_weights import read_network
from crnn_jax.reading.decoder import read_language_model, read_lexicon

TABLE = Charset.from_characters("abc")
READERS = {
    "table": Charset.read,
    "model": load_model,
    "weights": read_network,
    "words": lambda path: read_lexicon(path, TABLE),
    "ngrams": read_language_model,
    "picture": decode_image,
}


def make(kind, path):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "device":
        return "/dev/zero"
    elif kind == "zero byte":
        return f"{path}\0"
    return path


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "kind", ["nothing", "pipe", "device", "loop", "folder", "empty", "zero byte"]
)
def test_what_is_no_file_ends_at_once_in_one_line(tmp_path, reader, kind):
    path = make(kind, tmp_path / "x")
    with pytest.raises(UserError) as told:
        READERS[reader](path)
    assert str(told.value).startswith(str(path))
    assert "\n" not in str(told.value)
    if kind == "device":
        assert ("not a file" in str(told.value)) or isinstance(told.value, UnreadableImage)


def test_a_pipe_that_somebody_writes_to_is_read(tmp_path):
    os.mkfifo(path := tmp_path / "pipe")

    def write():
        with open(path, "w") as file:
            file.write("ab\n" * 50_000)

    writer = threading.Thread(target=write)
    # Both ends open: `<(...)` of a shell hands over a pipe that is written to already.
    holder = os.open(path, os.O_RDWR)
    writer.start()
    lines = text_lines(path, 10)
    assert next(lines) == "ab"
    os.close(holder)
    assert sum(1 for _ in lines) == 49_999
    writer.join()


def test_lines_as_they_stand(tmp_path):
    (path := tmp_path / "x").write_bytes(b"\xef\xbb\xbfa\r\n\r\n b\x0c\xe2\x80\xa8\r\r\n\ncd")
    assert list(text_lines(path, 8)) == ["a", "", " b\x0c\u2028\r", "", "cd"]
    path.write_bytes(b"")
    assert list(text_lines(path, 8)) == []


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\nnext\n"])
def test_a_line_without_end_is_told_by_its_number(tmp_path, end):
    (path := tmp_path / "x").write_bytes(b"\nabcd" + end)
    assert list(text_lines(path, 4))[:2] == ["", "abcd"]
    path.write_bytes(b"\nabcde" + end)
    with pytest.raises(UserError, match=r"x:2: a line of over 4 bytes"):
        list(text_lines(path, 4))
    # No more than that is read of a line of a terabyte.
    os.truncate(path, 1 << 40)
    with pytest.raises(UserError, match=r"x:2: a line of over 4 bytes"):
        list(text_lines(path, 4))


def test_bytes_that_are_no_text(tmp_path):
    (path := tmp_path / "x").write_bytes(b"a\n\xff\n")
    with pytest.raises(UserError, match=r"x:2: not UTF-8"):
        list(text_lines(path, 8))


def test_a_disk_that_fails(tmp_path, monkeypatch):
    (path := tmp_path / "x").write_bytes(b"a\n")
    monkeypatch.setattr("builtins.open", lambda *_: (_ for _ in ()).throw(OSError(5, "I/O error")))
    with pytest.raises(UserError, match=r"x: cannot be read: I/O error"):
        open_file(path)


def test_an_error_is_one_line_of_bounded_length():
    line = str(UserError("a\nb\r\nc" + "x" * 10**6 + " is wrong"))
    assert line.startswith("a b c")
    assert line.endswith("x is wrong")
    assert len(line) == LONGEST + 5
