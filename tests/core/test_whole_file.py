import os
import threading

import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.core.whole_file import whole_file


def write(path, text):
    with whole_file(path) as file:
        file.write(text)


def test_text_is_utf8_with_lf(tmp_path):
    write(tmp_path / "new", "é\n")
    assert (tmp_path / "new").read_bytes() == b"\xc3\xa9\n"


def test_what_was_there_stays_where_writing_fails(tmp_path):
    (file := tmp_path / "file").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write(file, "new" * 10_000 + "\udcff")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_told(tmp_path):
    (file := tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(UserError, match="full: cannot be written: No space left on device"):
        write(file, "a")


@pytest.mark.parametrize("path", [".", "missing/file"])
def test_no_place_for_a_file(tmp_path, path):
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / path, "a")


def test_a_link_stays_one(tmp_path):
    (target := tmp_path / "target").write_text("old")
    (link := tmp_path / "link").symlink_to(target)
    write(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_pipe_is_written_as_it_is(tmp_path):
    os.mkfifo(pipe := tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write(pipe, "words\n")
    reader.join()
    assert read == ["words\n"]
    assert pipe.is_fifo()


def test_bytes(tmp_path):
    with whole_file(tmp_path / "new", "wb") as file:
        file.write(b"\r\n\xff")
    assert (tmp_path / "new").read_bytes() == b"\r\n\xff"
