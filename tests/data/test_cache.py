import os
import pickle

import numpy as np
import pytest

from crnn_jax.core.charset import Charset
from crnn_jax.data import cache, headers, index
from crnn_jax.data.files import FileSource
from crnn_jax.data.progress import Progress
from tests.data.conftest import write_picture

LOWER = Charset.from_characters("abc", ignore_case=True)


@pytest.fixture
def keep(monkeypatch, tmp_path):
    """Everything is worth keeping, and the user's cache lies in a temporary folder."""
    monkeypatch.setattr(index, "WORTH_SECONDS", -1.0)
    monkeypatch.setattr(headers, "WORTH_SECONDS", -1.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    folder = tmp_path / "data"
    for i in range(5):
        write_picture(folder / f"{i}.png", 20 + i, 30 + i)
    path = folder / "labels.tsv"
    path.write_text("".join(f"{i}.png\ta{'b' * i}\n" for i in range(4)) + "4.png\t?é\n")
    return path


def opened(path, charset=LOWER, **options):
    return FileSource(path, charset, cache=True, **options)


def fails(*args, **kwargs):
    pytest.fail("done again")


def caches(folder):
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


def same(left, right):
    for name in index.ARRAYS:
        np.testing.assert_array_equal(getattr(left.index, name), getattr(right.index, name))
        assert getattr(left.index, name).dtype == getattr(right.index, name).dtype
    assert left.index.counts == right.index.counts
    assert left.index.unknown == right.index.unknown
    assert left.reasons.counts == right.reasons.counts


def test_the_second_start_indexes_nothing(keep, monkeypatch):
    first = opened(keep)
    sizes = first.sizes(np.arange(5))
    assert len(caches(keep.parent)) == 2
    monkeypatch.setattr(index, "build_index", fails)
    monkeypatch.setattr(headers, "image_size", fails)
    second = opened(keep)
    assert second.index.file
    same(first, second)
    np.testing.assert_array_equal(second.sizes(np.arange(5)), sizes)
    assert second.read(np.array([2]))[0].shape == (22, 32, 1)


def test_what_changes_the_index_makes_a_new_one(keep):
    first = opened(keep)
    for other in (
        opened(keep, Charset.from_characters("ab", ignore_case=True)),
        opened(keep, Charset.from_characters("abc")),
        opened(keep, unknown="strip"),
    ):
        assert other.index.file == ""
    assert opened(keep).index.file
    keep.write_text(keep.read_text() + "0.png\tc\n")
    grown = opened(keep)
    assert (grown.index.file, len(grown)) == ("", 6)
    assert first.index.file != opened(keep).index.file
    stat = os.stat(keep)
    os.utime(keep, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    assert opened(keep).index.file == ""


@pytest.mark.parametrize("harm", ["cut", "text", "empty", "version"])
def test_a_damaged_cache_is_as_good_as_none(keep, harm):
    first = opened(keep)
    (path,) = (p for p in keep.parent.iterdir() if p.name.endswith(".crnn-index"))
    data = path.read_bytes()
    path.write_bytes(
        {
            "cut": data[:-1],
            "text": b"not json\n" + data,
            "empty": b"",
            "version": data.replace(b'"version": %d' % cache.VERSION, b'"version": 9'),
        }[harm]
    )
    second = opened(keep)
    assert second.index.file == ""
    same(first, second)
    assert opened(keep).index.file  # and it was mended


def test_where_the_data_cannot_be_written_the_users_cache_serves(keep, monkeypatch, tmp_path):
    make = cache.tempfile.mkstemp

    def refused(dir, **options):  # noqa: A002
        if os.fspath(dir).startswith(str(keep.parent)):
            raise PermissionError(13, "read-only")
        return make(dir=dir, **options)

    monkeypatch.setattr(cache.tempfile, "mkstemp", refused)
    opened(keep)
    assert caches(keep.parent) == []
    assert opened(keep).index.file.startswith(str(tmp_path / "user/crnn_jax/labels.tsv."))


def test_a_cache_that_cannot_be_written_at_all(keep, monkeypatch):
    monkeypatch.setattr(cache.tempfile, "mkstemp", lambda **_: (_ for _ in ()).throw(OSError()))
    assert len(opened(keep)) == 5


def test_short_work_is_not_kept(keep, monkeypatch):
    monkeypatch.setattr(index, "WORTH_SECONDS", 60.0)
    monkeypatch.setattr(headers, "WORTH_SECONDS", 60.0)
    opened(keep).sizes(np.arange(5))
    assert caches(keep.parent) == []
    monkeypatch.setattr(index, "WORTH_SECONDS", -1.0)
    FileSource(keep, LOWER)
    assert caches(keep.parent) == []  # nor without being asked


def parse(line):
    path, _, label = line.partition("\t")
    return path, label


def test_what_ones_own_parser_gives_is_not_kept(keep):
    source = opened(keep, format=f"{__name__}:parse")
    source.sizes(np.arange(5))
    assert caches(keep.parent) == []


def test_unreadable_pictures_are_tried_again(keep):
    (keep.parent / "3.png").unlink()
    assert opened(keep).sizes(np.arange(5))[3, 0] == 0
    write_picture(keep.parent / "3.png", 20, 99)
    assert opened(keep).sizes(np.arange(5))[3].tolist() == [20, 99]


def test_an_interrupted_scan_goes_on(keep, monkeypatch):
    monkeypatch.setattr(headers, "TOGETHER", 1)
    monkeypatch.setattr(headers, "THREADS", 1)
    asked = []
    size_of = headers.image_size

    def interrupted(path):
        asked.append(path)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return size_of(path)

    monkeypatch.setattr(headers, "image_size", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened(keep).sizes(np.arange(5))
    first = set(asked[:3])
    asked[:] = ["", "", "", ""]  # no further interruption
    sizes = opened(keep).sizes(np.arange(5))
    assert sizes.tolist() == [[20 + i, 30 + i] for i in range(5)]
    assert not first & set(asked)


def test_many_headers_in_parallel(tmp_path):
    for i in range(300):
        write_picture(tmp_path / f"{i:03}.png", 5 + i % 7, 1 + i)
    source = FileSource(tmp_path, LOWER)
    ids = np.random.default_rng(0).permutation(300)
    expected = [[5 + i % 7, 1 + i] for i in ids.tolist()]
    assert source.sizes(ids).tolist() == expected
    assert source.sizes(np.array([3, 3, 0])).tolist() == [[8, 4], [8, 4], [5, 1]]


def test_a_folder_is_known_by_its_listing(keep):
    folder = keep.parent
    assert opened(folder, format="name").index.file == ""
    assert opened(folder, format="name").index.file
    write_picture(folder / "new.png", 9, 9)
    assert opened(folder, format="name").index.file == ""


def test_a_mapped_index_is_not_sent_to_workers(keep):
    opened(keep)
    source = opened(keep)
    assert len(pickle.dumps(source.index)) < 1000
    same(source, pickle.loads(pickle.dumps(source)))  # noqa: S301


class Terminal:
    def __init__(self, is_terminal):
        self.text = ""
        self.isatty = lambda: is_terminal

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_progress(monkeypatch):
    clock = [4.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    for is_terminal, expected in (
        (False, ["headers: 40 of 100, 10/s, 6 s left", "headers: 100 of 100, 10/s, 0 s left"]),
        (True, ["headers: 30 of 100, 10/s, 7 s left", "headers: 40 of 100, 10/s, 6 s left"]),
    ):
        stream = Terminal(is_terminal)
        progress = Progress("headers", 100, stream)
        monkeypatch.setattr("crnn_jax.data.progress.EVERY", 3.5)
        for done in range(0, 101, 10):
            progress(done)
            clock[0] += 1.0
        assert [line for line in expected if line not in stream.text] == []
        assert ("\r" in stream.text) == is_terminal
        assert stream.text.endswith("\n")
    quick = Terminal(is_terminal=False)
    progress = Progress("headers", 2, quick)
    progress(0)
    progress(2)
    assert quick.text == ""
