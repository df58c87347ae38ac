import itertools
import os
import pickle
import sys

import lmdb
import numpy as np
import pytest
from PIL import Image

from crnn_jax.core import images
from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data import lmdb_source, records
from crnn_jax.data.lmdb_source import BEYOND, LOST, LmdbRecords, is_lmdb
from crnn_jax.data.open import open_sources
from crnn_jax.data.record_source import RecordSource
from crnn_jax.data.records import LINE_BREAK, MISSING_LABEL, NO_TEXT, NOT_UTF8
from crnn_jax.data.source import NO_LABEL, UNKNOWN_CHARACTER
from crnn_jax.data.stored import open_stored
from tests.data.test_open import config_of

LOWER = Charset.from_characters("abcdefghijklmnopqrstuvwxyz", ignore_case=True)


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30)).save(tmp_path / "p.png")
    return (tmp_path / "p.png").read_bytes()


def write(folder, samples, *, first=1, count=None, more=()):
    """The keys of deep-text-recognition-benchmark; what is None is left out."""
    folder.mkdir(exist_ok=True)
    opened_to_write = lmdb.open(str(folder), map_size=1 << 24)
    with opened_to_write as environment, environment.begin(write=True) as put:
        for number, (picture, label) in enumerate(samples, first):
            if picture is not None:
                put.put(b"image-%09d" % number, picture)
            if label is not None:
                put.put(b"label-%09d" % number, label)
        for key, value in more:
            put.put(key, value)
        said = str(len(samples) if count is None else count)
        if said:
            put.put(b"num-samples", said.encode())
    return folder


def opened(folder, charset=LOWER, **options):
    return RecordSource(LmdbRecords(folder), charset, **options)


def texts(source):
    return [source.text(i) for i in range(len(source))]


def test_samples_are_found(tmp_path, picture):
    folder = write(tmp_path / "set", [(picture, b"ab"), (picture, b"Cde"), (picture, b"f\r")])
    source = opened(folder)
    assert texts(source) == ["ab", "cde", "f"]
    flat, offsets = source.labels
    assert [flat[a:b].tolist() for a, b in itertools.pairwise(offsets)] == [[0, 1], [2, 3, 4], [5]]
    assert source.identity(0) == str(folder / "image-000000001")
    assert source.sizes(np.arange(3)).tolist() == [[20, 30]] * 3
    assert [p.shape for p in source.read(np.array([2, 0]))] == [(20, 30, 1)] * 2
    assert source.reasons.total() == source.notes.total() == 0
    source.require_pictures()


def test_everything_that_cannot_be_used_is_counted(tmp_path, picture):
    samples = [
        (picture, b"good"), (None, b"good"), (picture, None), (picture, b"a\0b"),
        (picture, b"\xff\xfe"), (picture, b""), (b"", b"good"), (b"no picture", b"good"),
        (picture[: len(picture) // 2], b"good"), (picture, b"a\nb"), (None, None), (picture, b"Ab"),
    ]  # fmt: skip
    source = opened(write(tmp_path / "set", samples))
    assert len(source) == 12
    assert source.reasons.counts == {
        MISSING_LABEL: 2, UNKNOWN_CHARACTER: 1, NOT_UTF8: 1, NO_LABEL: 1, LINE_BREAK: 1
    }  # fmt: skip
    assert source.reasons.examples[NOT_UTF8] == [f"{tmp_path}/set/image-000000005 '\ufffd\ufffd'"]
    assert source.reasons.examples[UNKNOWN_CHARACTER] == [
        f"{tmp_path}/set/image-000000004 'a\\x00b'"
    ]
    read = source.read(np.arange(12))
    assert {i: p for i, p in enumerate(read) if isinstance(p, str)} == {
        1: images.MISSING, 6: images.EMPTY, 7: images.NO_PICTURE, 8: images.DAMAGED,
        10: images.MISSING,
    }  # fmt: skip
    sizes = source.sizes(np.arange(12))
    assert [images.REASONS[-w] for h, w in sizes.tolist() if h == 0] == [
        images.MISSING, images.EMPTY, images.NO_PICTURE, images.MISSING
    ]  # fmt: skip
    strict = opened(tmp_path / "set", Charset.from_characters("abdgo"))
    assert strict.index.counts["case"] == 1
    assert strict.index.counts["first case"] == 11


@pytest.mark.parametrize("together", [1, 2, 5])
def test_pieces_change_nothing(tmp_path, picture, monkeypatch, together):
    labels = (b"ab", b"c", b"\xff", b"", b"xyz", None, b"a?", b"C", b"D")
    folder = write(tmp_path / "set", [(picture, label) for label in labels])
    plain = Charset.from_characters("abcdefghijklmnopqrstuvwxyz")
    whole = opened(folder, plain).index
    assert whole.counts["first case"] == 7
    monkeypatch.setattr(records, "TOGETHER", together)
    monkeypatch.setattr(lmdb_source, "TOGETHER", together)
    parts = opened(folder, plain).index
    for name in ("flat", "label_offsets", "status", "line_offsets"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    assert parts.counts == whole.counts
    assert parts.unknown == whole.unknown


def test_a_label_of_marks_is_counted(tmp_path, picture):
    labels = (b"ab", b"e" + b"\xcc\x81" * 1000, b"c")
    source = opened(write(tmp_path / "set", [(picture, label) for label in labels]))
    assert source.reasons.counts == {NO_TEXT: 1}
    assert source.usable.tolist() == [True, False, True]
    assert [source.text(i) for i in (0, 2)] == ["ab", "c"]


def test_a_length_that_lies(tmp_path, picture):
    samples = [(picture, b"a"), (picture, b"b"), (picture, b"c")]
    more = opened(write(tmp_path / "more", samples, count=1_000_000_000_000))
    assert len(more) == 3
    assert more.reasons.counts == {LOST: 1_000_000_000_000 - 3}
    assert "image-000000003" in more.reasons.examples[LOST][0]
    fewer = opened(write(tmp_path / "fewer", samples, count=2))
    assert texts(fewer) == ["a", "b"]
    assert fewer.notes.counts == {BEYOND: 1}
    assert fewer.notes.examples[BEYOND] == [str(tmp_path / "fewer/image-000000003")]


def test_keys_that_count_from_zero(tmp_path, picture):
    samples = [(picture, b"a"), (picture, b"b")]
    zero = opened(write(tmp_path / "zero", samples, first=0))
    assert texts(zero) == ["a", "b"]
    assert zero.identity(1).endswith("image-000000001")
    stray = opened(write(tmp_path / "stray", samples, more=[(b"label-000000000", b"z")]))
    assert texts(stray) == ["a", "b"]


def test_other_keys_are_in_nobodys_way(tmp_path, picture):
    more = [(b"lexicon-000000009", b"x"), (b"wh-000000009", b"1"), (b"label", b"x"), (b"z", b"z")]
    source = opened(write(tmp_path / "set", [(picture, b"a")], more=more))
    assert texts(source) == ["a"]
    assert source.reasons.total() == source.notes.total() == 0


@pytest.mark.parametrize("said", ["", " ", "many", "-3"])
def test_no_number_of_samples(tmp_path, picture, said):
    with pytest.raises(UserError, match="no number under 'num-samples'"):
        opened(write(tmp_path / "set", [(picture, b"a")], count=said))


def test_files_that_are_no_lmdb(tmp_path, picture):
    with pytest.raises(UserError, match="no records in this lmdb set"):
        opened(write(tmp_path / "empty", []))
    with pytest.raises(UserError, match="no picture in this record"):
        opened(write(tmp_path / "labels", [(None, b"a")] * 3)).require_pictures()
    (tmp_path / "text").mkdir()
    assert not is_lmdb(tmp_path / "text")
    (tmp_path / "text/data.mdb").write_bytes(b"text" * 5000)
    assert is_lmdb(tmp_path / "text")
    with pytest.raises(UserError, match="cannot be opened as LMDB"):
        opened(tmp_path / "text")


def test_a_file_cut_short(tmp_path):
    folder = write(tmp_path / "set", [(bytes(8000), b"a")] * 100)
    data = folder / "data.mdb"
    whole = data.stat().st_size
    os.truncate(data, whole // 2)
    # To read behind the end would kill the process.
    with pytest.raises(UserError, match=rf"data\.mdb: cut short: .* of {whole:,} bytes"):
        opened(folder)


def test_a_small_file_cut_short(tmp_path, picture):
    folder = write(tmp_path / "set", [(picture, b"a")])
    data = folder / "data.mdb"
    os.truncate(data, data.stat().st_size // 2)
    with pytest.raises(UserError, match=r"data\.mdb: cut short: "):
        opened(folder)


def test_pages_that_are_missing_matter_where_they_are_used(tmp_path, picture):
    folder = write(tmp_path / "set", [(picture, b"a"), (bytes(20_000), b"b")])
    assert not lmdb_source._ends_early(str(folder))
    os.truncate(folder / "data.mdb", (folder / "data.mdb").stat().st_size - 8192)
    assert lmdb_source._ends_early(str(folder))


def test_a_read_only_folder_is_left_alone(tmp_path, picture):
    folder = write(tmp_path / "set", [(picture, b"a")])
    (folder / "lock.mdb").unlink()
    before = (folder / "data.mdb").read_bytes()
    source = opened(folder)
    source.read(np.array([0]))
    assert [p.name for p in folder.iterdir()] == ["data.mdb"]
    assert (folder / "data.mdb").read_bytes() == before


def test_two_sources_of_one_file_and_a_pickled_one(tmp_path, picture):
    folder = write(tmp_path / "set", [(picture, b"ab"), (picture, b"c")])
    one, other = opened(folder), opened(folder)
    assert one.records._environment is other.records._environment
    data = pickle.dumps(one)
    assert len(data) < 20_000  # nothing of the file goes to a worker
    del one, other
    copy = pickle.loads(data)  # noqa: S301
    assert copy.records._environment is None  # opened when it is first read
    assert copy.text(1) == "c"
    assert copy.read(np.array([0]))[0].shape == (20, 30, 1)


def test_a_second_start_reads_no_label(tmp_path, picture, monkeypatch):
    monkeypatch.setattr(records, "WORTH_SECONDS", -1.0)
    folder = write(tmp_path / "set", [(picture, b"ab"), (picture, b"x?"), (picture, b"\xff")])
    first = opened(folder, cache=True)
    monkeypatch.setattr(LmdbRecords, "labels", lambda self: pytest.fail("read again"))
    second = opened(folder, cache=True)
    assert second.index.file
    np.testing.assert_array_equal(second.index.flat, first.index.flat)
    assert second.reasons.counts == first.reasons.counts
    assert second.index.unknown == {"?": 1}
    monkeypatch.undo()
    del first, second  # a process may open a file only once
    # Another file under the same name is read anew.
    write(folder, [(picture, b"xyz")])
    assert texts(opened(folder, cache=True)) == ["xyz"]


def test_a_config_may_name_it(tmp_path, picture, words):
    folder = write(tmp_path / "set", [(picture, b"ab")] * 40 + [(picture, b"")])
    rule = Preprocessing(width=100)
    train, (held_out,) = open_sources(
        config_of(f"{folder}*2,{words.path}", validation=str(folder)), words.charset, rule, "keras"
    )
    assert len(train) == 2 * 40 + 100
    assert len(held_out) == 41
    train, (held_out,) = open_sources(config_of(folder, split="0/5"), words.charset, rule, "keras")
    assert (len(train), len(held_out)) == (32, 9)
    capital = write(tmp_path / "capital", [(picture, b"ABC")])
    with pytest.raises(UserError, match=r"image-000000001 'ABC': .*ignore_case"):
        open_sources(config_of(capital), words.charset, rule, "keras")


def test_without_the_package(tmp_path, picture, monkeypatch):
    folder = write(tmp_path / "set", [(picture, b"ab")])
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(UserError, match=r"pip install lmdb, or crnn_jax\[lmdb\]"):
        open_stored(folder, LOWER)
