"""Labels in class ids, sizes of pictures, and the files that keep both."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.core.charset import BLANK, UNKNOWN, Charset
from crnn_jax.data import index
from crnn_jax.data.files import FileSource
from crnn_jax.data.index import LabelEncoder
from crnn_jax.data.progress import Progress
from crnn_jax.data.source import NO_LABEL, STATUS, UNKNOWN_CHARACTER, USABLE
from tests.data.conftest import write_picture

LOWER = Charset.from_characters("abc", ignore_case=True)
ARRAYS = ("places", "flat", "label_offsets", "status")

texts = st.lists(
    st.text(st.sampled_from("abcABCéÉe\u0301ΣσςİßﬀΩ1 ?"), max_size=8), min_size=1, max_size=20
)


@given(texts, st.booleans(), st.sampled_from(["unusable", "strip", "map"]))
def test_many_labels_are_encoded_as_one_by_one(labels, ignore_case, rule):
    table = Charset((UNKNOWN, *"abcEé1σς", BLANK), 9, 0, ignore_case)
    encoded = LabelEncoder(table, rule)(labels)
    ends = np.cumsum([0, *encoded.lengths])
    met = ""
    for i, label in enumerate(labels):
        ids, unknown = table.encode(label, rule)
        met += unknown
        assert encoded.flat[ends[i] : ends[i + 1]].tolist() == ids.tolist()
        assert encoded.has_unknown[i] == bool(unknown)
        usable = USABLE if ids.size else NO_LABEL
        expected = UNKNOWN_CHARACTER if unknown and rule == "unusable" else usable
        assert STATUS[encoded.status[i]] == expected
    assert "".join(sorted(encoded.unknown.elements())) == "".join(sorted(met))


def test_labels_that_fail_on_case_alone():
    encoded = LabelEncoder(Charset.from_characters("abC"))(["ab", "AB", "Ab?", "c", "", "?"])
    assert encoded.case_alone.tolist() == [False, True, False, True, False, False]
    assert encoded.has_unknown.tolist() == [False, True, True, True, False, True]


def test_ids_are_small():
    assert LabelEncoder(Charset.from_characters("ab"))(["ab"]).flat.dtype == np.uint16
    large = Charset.from_characters(chr(c) for c in range(0x20000, 0x20000 + 70_000))
    encoded = LabelEncoder(large)([chr(0x20000 + 69_999)])
    assert encoded.flat.tolist() == [69_999]


@pytest.fixture
def keep(monkeypatch, tmp_path):
    """Everything is worth keeping, and the user's cache lies in a temporary folder."""
    monkeypatch.setattr(index, "WORTH_SECONDS", -1.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    folder = tmp_path / "data"
    for i in range(5):
        write_picture(folder / f"{i}.png", 20 + i, 30 + i)
    path = folder / "labels.tsv"
    path.write_text("".join(f"{i}.png\ta{'b' * i}\n" for i in range(4)) + "4.png\t?é\n")
    return path


@pytest.fixture
def built(monkeypatch):
    """How often an index was built."""
    times = []
    build = index.build_index
    monkeypatch.setattr("crnn_jax.data.files.build_index", lambda *a: times.append(1) or build(*a))
    return times


def opened(path, charset=LOWER, **options):
    return FileSource(path, charset, cache=True, **options)


def caches(folder):
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


def same(left, right):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(left.index, name), getattr(right.index, name))
        assert getattr(left.index, name).dtype == getattr(right.index, name).dtype
    assert left.index.counts == right.index.counts
    assert left.index.unknown == right.index.unknown
    assert left.reasons.counts == right.reasons.counts


def test_the_second_start_reads_neither_labels_nor_headers(keep, built, monkeypatch):
    first = opened(keep)
    sizes = first.sizes(np.arange(5))
    assert len(caches(keep.parent)) == 2
    monkeypatch.setattr(index, "image_size", lambda _: pytest.fail("read again"))
    second = opened(keep)
    assert len(built) == 1
    same(first, second)
    np.testing.assert_array_equal(second.sizes(np.arange(5)), sizes)
    assert second.read(np.array([2]))[0].shape == (22, 32, 1)


def test_what_changes_the_index_makes_a_new_one(keep, built):
    opened(keep)
    opened(keep, Charset.from_characters("ab", ignore_case=True))
    opened(keep, Charset.from_characters("abc"))
    opened(keep, unknown="strip")
    assert len(built) == 4
    keep.write_text(keep.read_text() + "0.png\tc\n")
    assert len(opened(keep)) == 6
    stat = os.stat(keep)
    os.utime(keep, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    opened(keep)
    assert len(built) == 6
    opened(keep)
    assert len(built) == 6


@pytest.mark.parametrize("harm", ["cut", "bit", "text", "empty", "version"])
def test_a_damaged_cache_is_made_anew(keep, built, harm, monkeypatch):
    first = opened(keep)
    (path,) = (p for p in keep.parent.iterdir() if p.name.endswith(".crnn-index"))
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[data.index(first.index.flat.tobytes())] ^= 1
    damaged = {"cut": data[:-1], "bit": flipped, "text": b"text", "empty": b"", "version": data}
    path.write_bytes(damaged[harm])
    if harm == "version":
        monkeypatch.setattr(index, "VERSION", 99)
    same(first, opened(keep))
    opened(keep)  # and it was mended
    assert len(built) == 2


def test_where_the_data_cannot_be_written_the_users_cache_serves(
    keep, built, monkeypatch, tmp_path
):
    write = index.whole_file

    def refused(path, mode):
        if str(path).startswith(str(keep.parent)):
            raise PermissionError(13, "read-only")
        return write(path, mode)

    monkeypatch.setattr(index, "whole_file", refused)
    opened(keep)
    opened(keep)
    assert caches(keep.parent) == []
    assert len(built) == 1
    assert [p.name[:11] for p in (tmp_path / "user/crnn_jax").iterdir()] == ["labels.tsv."]
    monkeypatch.setattr(index, "whole_file", lambda *_: (_ for _ in ()).throw(OSError()))
    assert len(opened(keep, unknown="strip")) == 5  # nowhere at all


def parse(line):
    path, _, label = line.partition("\t")
    return path, label


def test_what_is_not_kept(keep, monkeypatch):
    opened(keep, format=f"{__name__}:parse").sizes(np.arange(5))  # a parser of one's own
    FileSource(keep, LOWER).sizes(np.arange(5))  # without being asked
    monkeypatch.setattr(index, "WORTH_SECONDS", 60.0)
    opened(keep).sizes(np.arange(5))  # short work
    assert caches(keep.parent) == []


def test_unreadable_pictures_are_tried_again(keep):
    (keep.parent / "3.png").unlink()
    assert opened(keep).sizes(np.arange(5))[3, 0] == 0
    write_picture(keep.parent / "3.png", 20, 99)
    assert opened(keep).sizes(np.arange(5))[3].tolist() == [20, 99]


def test_an_interrupted_scan_goes_on(keep, monkeypatch):
    monkeypatch.setattr(index, "TOGETHER", 1)
    monkeypatch.setattr(index, "THREADS", 1)
    asked = []
    size_of = index.image_size

    def interrupted(path):
        asked.append(path)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return size_of(path)

    monkeypatch.setattr(index, "image_size", interrupted)
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


def test_a_folder_is_known_by_its_listing(keep, built):
    folder = keep.parent
    opened(folder, format="name")
    opened(folder, format="name")
    assert len(built) == 1
    write_picture(folder / "new.png", 9, 9)
    opened(folder, format="name")
    assert len(built) == 2


def test_progress(monkeypatch, capsys):
    for done in (0, 2):
        Progress("headers", 2)(done)
    assert capsys.readouterr().err == ""  # short work passes in silence
    monkeypatch.setattr("crnn_jax.data.progress.PATIENCE", 0.0)
    monkeypatch.setattr("crnn_jax.data.progress.EVERY", 0.0)
    progress = Progress("headers", 100)
    for done in (40, 70, 100):
        progress(done)
    shown = capsys.readouterr().err
    assert "headers" in shown
    assert "70/100" in shown
    assert shown.endswith("\n")
