import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crnn_jax.core import images
from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.data import headers, records
from crnn_jax.data.examples import bytes_features
from crnn_jax.data.record_source import RecordSource
from crnn_jax.data.records import DAMAGED_RECORD, LINE_BREAK, MISSING_LABEL, NOT_UTF8
from crnn_jax.data.source import NO_LABEL
from crnn_jax.data.stored import open_stored
from crnn_jax.data.tfds_source import ArrayRecords, is_array_record

LOWER = Charset.from_characters("abcdefghijklmnopqrstuvwxyz", ignore_case=True)
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


def test_an_example_written_by_tensorflow():
    expected = {"image": [b"\0\1\0\1"], "label": [b"ab", b"c"], "none": []}
    assert bytes_features(WRITTEN) == expected
    assert bytes_features(b"\x10\xac\x02" + WRITTEN) == expected  # a number in field 2


@given(st.dictionaries(st.text(max_size=9), st.binary(max_size=400), max_size=4))
def test_examples_are_read_back(features):
    assert bytes_features(example(**features)) == {k: [v] for k, v in features.items()}


@given(st.integers(0, len(WRITTEN) - 1), st.binary(max_size=20))
def test_what_is_no_example_is_told(cut, noise):
    for damaged in (WRITTEN[:cut], noise, WRITTEN[:cut] + noise):
        try:
            found = bytes_features(damaged)
        except ValueError:
            continue
        assert all(isinstance(v, bytes) for values in found.values() for v in values)
    for cut_inside in (5, 30, len(WRITTEN) - 1):
        with pytest.raises(ValueError, match=r"ends behind|without an end"):
            bytes_features(WRITTEN[:cut_inside])


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30)).save(tmp_path / "p.png")
    return (tmp_path / "p.png").read_bytes()


def write(folder, shards, name="words-train"):
    """Records (bytes) of every shard."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, shard in enumerate(shards):
        path = folder / f"{name}.array_record-{number:05}-of-{len(shards):05}"
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for record in shard:
            writer.write(record)
        writer.close()
    return folder


def opened(folder, **options):
    return RecordSource(ArrayRecords(folder), LOWER, **options)


def texts(source):
    return [source.text(i) for i in range(len(source))]


def test_samples_are_found(tmp_path, picture):
    shards = [
        [example(image=picture, label=label, path=b"a/%s.png" % label) for label in labels]
        for labels in ([b"ab", b"Cd"], [b"e"], [b"f", b"g", b"h"])
    ]
    source = opened(write(tmp_path / "set", shards))
    assert texts(source) == ["ab", "cd", "e", "f", "g", "h"]
    flat, offsets = source.labels
    assert [flat[a:b].tolist() for a, b in itertools.pairwise(offsets)][:3] == [[0, 1], [2, 3], [4]]
    assert source.identity(2) == str(tmp_path / "set/a/e.png")
    assert source.written_path(5) == "a/h.png"
    assert source.sizes(np.arange(6)).tolist() == [[20, 30]] * 6
    assert [p.shape for p in source.read(np.array([5, 0]))] == [(20, 30, 1)] * 2
    copy = pickle.loads(pickle.dumps(source))  # noqa: S301
    assert copy.records._readers == []  # opened when it is first read
    assert copy.text(3) == "f"


def test_a_label_goes_before_a_text(tmp_path, picture):
    shards = [[example(image=picture, text=b"other", label=b"ab")]]
    assert texts(opened(write(tmp_path / "both", shards))) == ["ab"]
    shards = [[example(image=picture, text=b"other")]]
    assert texts(opened(write(tmp_path / "text", shards))) == ["other"]


def test_everything_that_cannot_be_used_is_counted(tmp_path, picture):
    made = [
        example(image=picture, label=b"good"), example(image=picture), example(label=b"good"),
        example(image=b"", label=b"good"), example(image=picture, label=b"\xff"), b"\xff\xff",
        example(image=picture, label=b""), example(image=picture, label=b"a\nb"),
        example(image=b"none", label=b"a"),
    ]  # fmt: skip
    source = opened(write(tmp_path / "set", [made]))
    assert source.reasons.counts == {
        MISSING_LABEL: 1, NOT_UTF8: 1, DAMAGED_RECORD: 1, NO_LABEL: 1, LINE_BREAK: 1
    }  # fmt: skip
    assert source.reasons.examples[NOT_UTF8] == [f"{tmp_path}/set/record-4 '\ufffd'"]
    assert {i: p for i, p in enumerate(source.read(np.arange(9))) if isinstance(p, str)} == {
        2: images.MISSING, 3: images.EMPTY, 5: images.DAMAGED, 8: images.NO_PICTURE
    }  # fmt: skip
    assert source.text(5) == ""


def test_a_flipped_bit_costs_its_record_only(tmp_path):
    rng = np.random.default_rng(0)
    made = [example(image=rng.bytes(9000), label=b"a%d" % i) for i in range(40)]
    folder = write(tmp_path / "set", [made])
    (shard,) = folder.iterdir()
    data = bytearray(shard.read_bytes())
    data[100_000] ^= 1
    shard.write_bytes(data)
    found = list(ArrayRecords(folder).labels())
    assert len(found) == 40
    assert found.count(DAMAGED_RECORD) == 1
    assert sum(label == b"a%d" % i for i, label in enumerate(found)) == 39
    assert open_stored(folder, LOWER).read(np.array([found.index(DAMAGED_RECORD)])) == [
        images.DAMAGED
    ]


def test_splits_and_missing_shards(tmp_path, picture):
    folder = tmp_path / "set"
    write(folder, [[example(image=picture, label=b"a")]] * 2)
    write(folder, [[example(image=picture, text=b"b")]], "words-test")
    (folder / "dataset_info.json").write_text("{}")
    with pytest.raises(UserError, match=r"several splits \(test, train\); name one: .*set/train"):
        opened(folder)
    assert texts(opened(folder / "train")) == ["a", "a"]
    assert texts(opened(folder / "test")) == ["b"]
    (folder / "test").touch()
    assert not is_array_record(folder / "test")  # an annotation file beside them
    assert not is_array_record(folder / "validation")
    assert not is_array_record(folder / "dataset_info.json")
    (folder / "words-train.array_record-00000-of-00002").unlink()
    with pytest.raises(UserError, match=r"shard 0 of 2 of words-train is missing \(1 are there\)"):
        opened(folder / "train")


def test_shards_that_are_none(tmp_path, picture):
    with pytest.raises(UserError, match="no records in this array_record set"):
        opened(write(tmp_path / "empty", [[]]))
    with pytest.raises(UserError, match="holds label; want the features 'image'"):
        opened(write(tmp_path / "labels", [[example(label=b"a")]]))
    with pytest.raises(UserError, match=r"holds no tf\.train\.Example"):
        opened(write(tmp_path / "noise", [[b"\xff"]]))
    folder = write(tmp_path / "cut", [[example(image=picture, label=b"a")]])
    (shard,) = folder.iterdir()
    shard.write_bytes(shard.read_bytes()[:70_000])
    with pytest.raises(UserError, match="cannot be opened as ArrayRecord"):
        opened(folder)


def test_a_second_start_reads_nothing(tmp_path, picture, monkeypatch):
    monkeypatch.setattr(records, "WORTH_SECONDS", -1.0)
    monkeypatch.setattr(headers, "WORTH_SECONDS", -1.0)
    folder = write(tmp_path / "set", [[example(image=picture, label=b"ab")] * 3])
    first = opened(folder, cache=True)
    first.sizes(np.arange(3))
    monkeypatch.setattr(ArrayRecords, "labels", lambda self: pytest.fail("read again"))
    monkeypatch.setattr(ArrayRecords, "picture", lambda self, _: pytest.fail("read again"))
    second = opened(folder, cache=True)
    assert second.index.file
    np.testing.assert_array_equal(second.index.flat, first.index.flat)
    assert second.sizes(np.arange(3)).tolist() == [[20, 30]] * 3
    monkeypatch.undo()
    write(folder, [[example(image=picture, label=b"xyz")] * 2])
    assert texts(opened(folder, cache=True)) == ["xyz"] * 2


def test_without_the_package(tmp_path, picture, monkeypatch):
    folder = write(tmp_path / "set", [[example(image=picture, label=b"ab")]])
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
    with pytest.raises(UserError, match=r"pip install array_record, or crnn_jax\[array_record\]"):
        open_stored(folder, LOWER)


def test_reading_needs_neither_tensorflow_nor_tfds(tmp_path, picture):
    folder = write(tmp_path / "set", [[example(image=picture, label=b"ab")]])
    code = (
        "import sys; from crnn_jax.data.stored import open_stored; "
        "from crnn_jax.core.charset import Charset; "
        f"print(open_stored({str(folder)!r}, Charset.from_characters('ab')).text(0)); "
        "print([m for m in ('tensorflow', 'tensorflow_datasets', 'jax') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:2] == ["ab", "[]"]
