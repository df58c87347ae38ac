import errno
import fcntl
import os

import pytest

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.files import locked_folder, text_lines, whole_file
from crnn_jax.core.images import decode_image
from crnn_jax.core.model_file import load_model


def write(path, text):
    with whole_file(path) as file:
        file.write(text)


@pytest.mark.parametrize("read", [Charset.read, load_model, decode_image])
@pytest.mark.parametrize("name", ["nothing", "folder", "empty", "zero byte\0"])
def test_what_cannot_be_read_is_told_in_one_line(tmp_path, read, name):
    path = str(tmp_path / name)
    if name == "folder":
        os.mkdir(path)
    elif name == "empty":
        open(path, "w").close()
    with pytest.raises(UserError) as error:
        read(path)
    assert str(error.value).startswith(path)
    assert "\n" not in str(error.value)


def test_lines_as_they_stand(tmp_path):
    (path := tmp_path / "x").write_bytes(b"\xef\xbb\xbfa\r\n\r\n b\x0c\xe2\x80\xa8\r\r\n\ncd")
    assert list(text_lines(path, 8)) == ["a", "", " b\x0c\u2028\r", "", "cd"]
    path.write_bytes(b"")
    assert list(text_lines(path, 8)) == []


def test_a_mark_takes_nothing_from_the_first_line(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes(b"\xef\xbb\xbf" + 9 * b"a" + b"\r\nb\n")
    assert list(text_lines(path, 9)) == [9 * "a", "b"]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\nnext\n"])
def test_a_line_without_end_is_told_by_its_number(tmp_path, end):
    (path := tmp_path / "x").write_bytes(b"\nabcd" + end)
    assert list(text_lines(path, 4))[:2] == ["", "abcd"]
    path.write_bytes(b"\nabcde" + end)
    os.truncate(path, 1 << 40)  # no more than the limit is read of a line of a terabyte
    with pytest.raises(UserError, match=r"x:2: a line of over 4 bytes"):
        list(text_lines(path, 4))


def test_text_is_utf8_with_lf_and_bytes_are_bytes(tmp_path):
    write(tmp_path / "new", "é\n")
    assert (tmp_path / "new").read_bytes() == b"\xc3\xa9\n"
    with whole_file(tmp_path / "new", "wb") as file:
        file.write(b"\r\n\xff")
    assert (tmp_path / "new").read_bytes() == b"\r\n\xff"


def test_a_pipe_is_written_directly():
    reads, writes = os.pipe()
    write(f"/dev/fd/{writes}", "text")
    os.close(writes)
    with open(reads) as file:
        assert file.read() == "text"


def test_what_was_there_stays_where_writing_fails(tmp_path, monkeypatch):
    (file := tmp_path / "file").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write(file, "new" * 10_000 + "\udcff")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(UserError, match="file: cannot be written: No space left"):
        write(file, "new")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("path", [".", "missing/file", "/dev/full"])
def test_no_place_for_a_file(tmp_path, path):
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / path, "a")


def test_a_file_system_without_locks_serves(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with locked_folder(tmp_path / "run", "--workdir"):
        assert (tmp_path / "run").is_dir()
