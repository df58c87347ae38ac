"""LMDB and ArrayRecord: what is read from them, and what is counted."""

import itertools
import pickle
import subprocess
import sys

import lmdb
import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crnn_jax.core import images
from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data import index
from crnn_jax.data.files import FileSource
from crnn_jax.data.records import (
    LmdbRecords,
    bytes_features,
    find_shards,
)  # fmt: skip
from crnn_jax.data.source import (
    DAMAGED_RECORD,
    LINE_BREAK,
    MISSING_LABEL,
    NO_LABEL,
    NOT_UTF8,
    STATUS,
    UNKNOWN_CHARACTER,
)  # fmt: skip
from crnn_jax.data.sources import open_sources
from tests.data.test_sources import config_of

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LOWER = Charset.from_characters(LETTERS, ignore_case=True)
# tf.train.Example(image=[00 01] * 2, label=['ab', 'c'], none=[] of bytes, other=[7, -300],
# real=[0.5]), as TensorFlow 2.21 writes it.
WRITTEN = bytes.fromhex(
    "0a5f"
    "0a110a05696d61676512080a060a0400010001"
    "0a120a056c6162656c12090a070a0261620a0163"
    "0a0a0a046e6f6e6512020a00"
    "0a180a056f74686572120f1a0d0a0b07d4fdffffffffffffff01"
    "0a100a047265616c120812060a040000003f"
)


def field(number, value):
    size = len(value)
    length = b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def example(**features):
    """A serialized tf.train.Example of byte strings."""
    entries = b""
    for name, value in features.items():
        feature = field(1, field(1, value))
        entries += field(1, field(1, name.encode()) + field(2, feature))
    return field(1, entries)


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30)).save(tmp_path / "p.png")
    return (tmp_path / "p.png").read_bytes()


def write_lmdb(folder, samples, *, first=1, count=None, more=()):
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


def write_shards(folder, shards, name="words-train"):
    """Records (bytes) of every shard."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, shard in enumerate(shards):
        path = folder / f"{name}.array_record-{number:05}-of-{len(shards):05}"
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for record in shard:
            writer.write(record)
        writer.close()
    return folder


def write_set(kind, folder, samples):
    """(picture, label)s as LMDB or ArrayRecord; what is None is left out."""
    if kind == "lmdb":
        return write_lmdb(folder, samples)
    records = [{"image": picture, "label": label} for picture, label in samples]
    made = [example(**{k: v for k, v in r.items() if v is not None}) for r in records]
    return write_shards(folder, [made])


def opened(folder, charset=LOWER, **options):
    return FileSource(folder, charset, **options)


def texts(source):
    return [source.text(i) for i in range(len(source))]


both = pytest.mark.parametrize("kind", ["lmdb", "array_record"])


@both
def test_samples_are_found(tmp_path, picture, kind):
    folder = write_set(kind, tmp_path / "set", [(picture, x) for x in (b"ab", b"Cde", b"f\r")])
    source = opened(folder)
    assert source.format == kind
    assert texts(source) == ["ab", "cde", "f"]
    flat, offsets = source.labels
    assert [flat[a:b].tolist() for a, b in itertools.pairwise(offsets)] == [[0, 1], [2, 3, 4], [5]]
    name = "image-000000001" if kind == "lmdb" else "record-0"
    assert source.identity(0) == str(folder / name)
    assert source.sizes(np.arange(3)).tolist() == [[20, 30]] * 3
    assert [p.shape for p in source.read(np.array([2, 0]))] == [(20, 30, 1)] * 2
    assert source.reasons.total() == source.notes.total() == 0
    source.require_pictures()
    data = pickle.dumps(source)
    assert len(data) < 20_000  # nothing of the store goes to a worker
    copy = pickle.loads(data)  # noqa: S301
    assert copy.read(np.array([0]))[0].shape == (20, 30, 1)


@both
def test_everything_that_cannot_be_used_is_counted(tmp_path, picture, kind):
    samples = [
        (picture, b"good"), (None, b"good"), (picture, None), (picture, b"a\0b"),
        (picture, b"\xff\xfe"), (picture, b""), (b"", b"good"), (b"no picture", b"good"),
        (picture[: len(picture) // 2], b"good"), (picture, b"a\nb"), (picture, b"Ab"),
    ]  # fmt: skip
    source = opened(write_set(kind, tmp_path / "set", samples))
    assert source.reasons.counts == {
        MISSING_LABEL: 1, UNKNOWN_CHARACTER: 1, NOT_UTF8: 1, NO_LABEL: 1, LINE_BREAK: 1
    }  # fmt: skip
    name = "image-00000000{}" if kind == "lmdb" else "record-{}"
    fifth = name.format(5 if kind == "lmdb" else 4)
    assert source.reasons.examples[NOT_UTF8] == [f"{tmp_path}/set/{fifth} '\ufffd\ufffd'"]
    read = source.read(np.arange(11))
    assert {i: p for i, p in enumerate(read) if isinstance(p, str)} == {
        1: images.MISSING, 6: images.EMPTY, 7: images.NO_PICTURE, 8: images.DAMAGED
    }  # fmt: skip
    sizes = source.sizes(np.arange(11))
    assert [images.REASONS[-w] for h, w in sizes.tolist() if h == 0] == [
        images.MISSING, images.EMPTY, images.NO_PICTURE
    ]  # fmt: skip
    strict = opened(tmp_path / "set", Charset.from_characters("abdgo"))
    assert strict.index.counts["case"] == 1
    assert strict.case_note().endswith("'Ab'")


@both
@pytest.mark.parametrize("together", [1, 2, 5])
def test_blocks_change_nothing(tmp_path, picture, monkeypatch, kind, together):
    labels = (b"ab", b"c", b"\xff", b"", b"xyz", None, b"a?", b"C", b"D")
    folder = write_set(kind, tmp_path / "set", [(picture, label) for label in labels])
    plain = Charset.from_characters(LETTERS)
    whole = opened(folder, plain)
    assert whole.case_note().endswith("'C'")
    monkeypatch.setattr(type(whole.reader), "together", together)
    parts = opened(folder, plain)
    for name in ("flat", "label_offsets", "status", "places"):
        np.testing.assert_array_equal(getattr(parts.index, name), getattr(whole.index, name))
    assert parts.index.counts == whole.index.counts
    assert parts.index.unknown == whole.index.unknown


@both
def test_a_second_start_reads_nothing(tmp_path, picture, monkeypatch, kind):
    monkeypatch.setattr(index, "WORTH_SECONDS", -1.0)
    folder = write_set(kind, tmp_path / "set", [(picture, x) for x in (b"ab", b"x?", b"\xff")])
    first = opened(folder, cache=True)
    first.sizes(np.arange(3))
    monkeypatch.setattr(type(first.reader), "blocks", None)
    second = opened(folder, cache=True)
    monkeypatch.setattr(type(first.reader), "content", None)
    np.testing.assert_array_equal(second.index.flat, first.index.flat)
    assert second.sizes(np.arange(3)).tolist() == [[20, 30]] * 3
    assert second.index.unknown == {"?": 1}
    monkeypatch.undo()
    del first, second  # a process may open a file only once
    # Another set under the same name is read anew.
    write_set(kind, folder, [(picture, b"xyz")])
    assert texts(opened(folder, cache=True))[0] == "xyz"


@both
def test_stores_that_hold_nothing_to_train_on(tmp_path, kind):
    with pytest.raises(UserError, match=f"no samples in this {kind} set"):
        opened(write_set(kind, tmp_path / "empty", []))
    with pytest.raises(UserError, match=r"no picture .* nor in the records|features 'image'"):
        opened(write_set(kind, tmp_path / "labels", [(None, b"a")] * 3)).require_pictures()


@pytest.mark.parametrize(
    ("kind", "module"),
    [("lmdb", "lmdb"), ("array_record", "array_record.python.array_record_data_source")],
)
def test_without_the_package(tmp_path, picture, monkeypatch, kind, module):
    folder = write_set(kind, tmp_path / "set", [(picture, b"ab")])
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"pip install {kind}, or crnn_jax\[{kind}\]"):
        opened(folder)


# LMDB


def test_a_number_of_samples_that_is_not_theirs(tmp_path, picture):
    samples = [(picture, b"a"), (picture, b"b"), (picture, b"c")]
    more = opened(write_lmdb(tmp_path / "more", samples, count=5))
    assert len(more) == 5
    assert more.reasons.counts == {MISSING_LABEL: 2}
    assert "image-000000004" in more.reasons.examples[MISSING_LABEL][0]
    with pytest.raises(UserError, match="says 1,000,000, but there are 7 entries"):
        opened(write_lmdb(tmp_path / "most", samples, count=1_000_000))
    fewer = opened(write_lmdb(tmp_path / "fewer", samples, count=2))
    assert texts(fewer) == ["a", "b"]
    assert fewer.notes.counts == {LmdbRecords.why_left_out: 1}
    assert fewer.notes.examples[LmdbRecords.why_left_out] == ["'image-000000003'"]


def test_keys_that_count_from_zero(tmp_path, picture):
    samples = [(picture, b"a"), (picture, b"b")]
    zero = opened(write_lmdb(tmp_path / "zero", samples, first=0))
    assert texts(zero) == ["a", "b"]
    assert zero.identity(1).endswith("image-000000001")
    stray = opened(write_lmdb(tmp_path / "stray", samples, more=[(b"label-000000000", b"z")]))
    assert texts(stray) == ["a", "b"]


def test_files_that_are_no_such_lmdb(tmp_path, picture):
    for said in ("", " ", "many", "-3"):
        with pytest.raises(UserError, match="no number under 'num-samples'"):
            opened(write_lmdb(tmp_path / f"set{said}", [(picture, b"a")], count=said))
    (tmp_path / "text").mkdir()
    (tmp_path / "text/data.mdb").write_bytes(b"text" * 5000)
    with pytest.raises(UserError, match="cannot be opened as LMDB"):
        opened(tmp_path / "text")


def test_a_file_cut_short(tmp_path):
    folder = write_lmdb(tmp_path / "set", [(bytes(8000), b"a")] * 100)
    data = folder / "data.mdb"
    whole = data.stat().st_size
    data.write_bytes(data.read_bytes()[: whole // 2])
    # To read behind the end would kill the process.
    with pytest.raises(UserError, match=rf"data\.mdb: cut short: .* of {whole:,} bytes"):
        opened(folder)


def test_a_read_only_folder_is_left_alone(tmp_path, picture):
    folder = write_lmdb(tmp_path / "set", [(picture, b"a")])
    (folder / "lock.mdb").unlink()
    before = (folder / "data.mdb").read_bytes()
    source = opened(folder)
    source.read(np.array([0]))
    assert [p.name for p in folder.iterdir()] == ["data.mdb"]
    assert (folder / "data.mdb").read_bytes() == before


def test_two_sources_of_one_file(tmp_path, picture):
    folder = write_lmdb(tmp_path / "set", [(picture, b"ab"), (picture, b"c")])
    one, other = opened(folder), opened(folder)
    assert one.reader._file is other.reader._file  # a process may open it only once


def test_a_config_may_name_it(tmp_path, picture, words):
    folder = write_lmdb(tmp_path / "set", [(picture, b"ab")] * 40 + [(picture, b"")])
    rule = Preprocessing(width=100)
    train, (held_out,) = open_sources(
        config_of(f"{folder}*2,{words.path}", validation=str(folder)), words.charset, rule, "keras"
    )
    assert len(train) == 2 * 40 + 100
    assert len(held_out) == 41
    train, (held_out,) = open_sources(config_of(folder, split="0/5"), words.charset, rule, "keras")
    assert (len(train), len(held_out)) == (32, 9)
    capital = write_lmdb(tmp_path / "capital", [(picture, b"ABC")])
    with pytest.raises(UserError, match=r"image-000000001 'ABC': .*ignore_case"):
        open_sources(config_of(capital), words.charset, rule, "keras")


# ArrayRecord


def test_an_example_written_by_tensorflow():
    expected = {"image": b"\0\1\0\1", "label": b"ab"}
    assert bytes_features(WRITTEN) == expected
    assert bytes_features(b"\x10\xac\x02" + WRITTEN) == expected  # a number in field 2


@given(st.dictionaries(st.text(max_size=9), st.binary(max_size=400), max_size=4))
def test_examples_are_read_back(features):
    assert bytes_features(example(**features)) == features


@given(st.integers(0, len(WRITTEN) - 1), st.binary(max_size=20))
def test_what_is_no_example_is_told(cut, noise):
    for damaged in (WRITTEN[:cut], noise, WRITTEN[:cut] + noise):
        try:
            found = bytes_features(damaged)
        except ValueError:
            continue
        assert all(isinstance(value, bytes) for value in found.values())
    for cut_inside in (5, 30, len(WRITTEN) - 1):
        with pytest.raises(ValueError, match=r"ends behind|without an end"):
            bytes_features(WRITTEN[:cut_inside])


def test_shards_follow_each_other(tmp_path, picture):
    shards = [
        [
            example(image=picture, label=label, text=b"other", path=b"a/%s.png" % label)
            for label in labels
        ]
        for labels in ([b"ab", b"Cd"], [b"e"], [b"f", b"g", b"h"])
    ]
    source = opened(write_shards(tmp_path / "set", shards))
    assert texts(source) == ["ab", "cd", "e", "f", "g", "h"]
    assert source.identity(2) == str(tmp_path / "set/a/e.png")
    assert list(source.written_paths())[5] == "a/h.png"


def test_a_flipped_bit_costs_its_record_only(tmp_path):
    rng = np.random.default_rng(0)
    made = [example(image=rng.bytes(9000), label=b"a%d" % i) for i in range(40)]
    folder = write_shards(tmp_path / "set", [made])
    (shard,) = folder.iterdir()
    data = bytearray(shard.read_bytes())
    data[100_000] ^= 1
    shard.write_bytes(data)
    source = opened(folder)
    assert source.reasons.counts[DAMAGED_RECORD] == 1
    (damaged,) = np.flatnonzero(source.index.status == STATUS.index(DAMAGED_RECORD))
    assert sum(source.text(i) == f"a{i}" for i in range(40)) == 39
    assert source.read(np.array([damaged])) == [images.DAMAGED]


def test_splits_and_missing_shards(tmp_path, picture):
    folder = tmp_path / "set"
    write_shards(folder, [[example(image=picture, label=b"a")]] * 2)
    write_shards(folder, [[example(image=picture, text=b"b")]], "words-test")
    (folder / "dataset_info.json").write_text("{}")
    with pytest.raises(UserError, match=r"several splits \(test, train\); name one: .*set/train"):
        opened(folder)
    assert texts(opened(folder / "train")) == ["a", "a"]
    assert texts(opened(folder / "test")) == ["b"]
    (folder / "test").touch()
    assert not find_shards(str(folder / "test"))  # an annotation file beside them
    assert not find_shards(str(folder / "validation"))
    assert not find_shards(str(folder / "dataset_info.json"))
    (folder / "words-train.array_record-00000-of-00002").unlink()
    with pytest.raises(UserError, match=r"shard 0 of 2 of words-train is missing \(1 are there\)"):
        opened(folder / "train")


def test_shards_that_are_none(tmp_path, picture):
    with pytest.raises(UserError, match="holds label; want the features 'image'"):
        opened(write_shards(tmp_path / "labels", [[example(label=b"a")]]))
    with pytest.raises(UserError, match=r"holds no tf\.train\.Example"):
        opened(write_shards(tmp_path / "noise", [[b"\xff"]]))
    folder = write_shards(tmp_path / "cut", [[example(image=picture, label=b"a")]])
    (shard,) = folder.iterdir()
    shard.write_bytes(shard.read_bytes()[:70_000])
    with pytest.raises(UserError, match="cannot be opened as ArrayRecord"):
        opened(folder)


def test_reading_needs_neither_tensorflow_nor_tfds(tmp_path, picture):
    folder = write_shards(tmp_path / "set", [[example(image=picture, label=b"ab")]])
    code = (
        "import sys; from crnn_jax.data.files import FileSource; "
        "from crnn_jax.core.charset import Charset; "
        f"print(FileSource({str(folder)!r}, Charset.from_characters('ab')).text(0)); "
        "print([m for m in ('tensorflow', 'tensorflow_datasets', 'jax') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:2] == ["ab", "[]"]
