"""LMDB and ArrayRecord: what is read from them, and what is counted."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crnn_jax.core import images
from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data import index
from crnn_jax.data.check import SAME_BYTES
from crnn_jax.data.files import FileSource
from crnn_jax.data.loader import batches
from crnn_jax.data.plan import Plan
from crnn_jax.data.records import LmdbRecords, bytes_features, find_shards
from crnn_jax.data.source import (
    DAMAGED_RECORD,
    LINE_BREAK,
    MISSING_LABEL,
    NO_LABEL,
    NOT_UTF8,
    STATUS,
    UNKNOWN_CHARACTER,
)
from tests.data.conftest import LETTERS, write_picture
from tests.data.test_check import look
from tests.data.test_loader import assert_equal, darker
from tests.testdata.stores import copied, example, write_lmdb, write_set, write_shards

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
both = pytest.mark.parametrize("kind", ["lmdb", "array_record"])


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30)).save(tmp_path / "p.png")
    return (tmp_path / "p.png").read_bytes()


def opened(folder, charset=LOWER, **options):
    return FileSource(folder, charset, **options)


def texts(source):
    return [source.text(i) for i in range(len(source))]


@both
def test_samples_are_found(tmp_path, picture, kind):
    folder = write_set(kind, tmp_path / "set", [(picture, x) for x in (b"ab", b"Cde", b"f\r")])
    source = opened(folder)
    assert (source.format, texts(source)) == (kind, ["ab", "cde", "f"])
    assert source.labels[0].tolist() == [0, 1, 2, 3, 4, 5]
    name = "image-000000001" if kind == "lmdb" else "record-0"
    assert source.identity(0) == str(folder / name)
    assert source.sizes(np.arange(3)).tolist() == [[20, 30]] * 3
    assert source.reasons.total() == source.notes.total() == 0
    source.require_pictures()
    data = pickle.dumps(source)
    assert len(data) < 20_000  # nothing of the store goes to a worker
    copy = pickle.loads(data)  # noqa: S301
    assert [image.shape for image in copy.read(np.array([2, 0]))] == [(20, 30, 1)] * 2


@both
def test_everything_that_cannot_be_used_is_counted(tmp_path, picture, kind):
    samples = [
        (picture, b"good"), (None, b"good"), (picture, None), (picture, b"a\0b"),
        (picture, b"\xff\xfe"), (picture, b""), (b"", b"good"), (b"no picture", b"good"),
        (picture[: len(picture) // 2], b"good"), (picture, b"a\nb"), (picture, b"Ab"),
    ]  # fmt: skip
    source = opened(write_set(kind, tmp_path / "set", samples))
    reasons = (MISSING_LABEL, UNKNOWN_CHARACTER, NOT_UTF8, NO_LABEL, LINE_BREAK)
    assert source.reasons.counts == dict.fromkeys(reasons, 1)
    name = "image-000000005" if kind == "lmdb" else "record-4"
    assert source.reasons.examples[NOT_UTF8] == [f"{tmp_path}/set/{name} '\ufffd\ufffd'"]
    read = source.read(np.arange(11))
    unreadable = {
        1: images.MISSING, 6: images.EMPTY, 7: images.NO_PICTURE, 8: images.DAMAGED
    }  # fmt: skip
    assert {i: p for i, p in enumerate(read) if isinstance(p, str)} == unreadable
    strict = opened(tmp_path / "set", Charset.from_characters("abdgo"))
    assert strict.case_note().endswith("'Ab'")


@both
def test_blocks_change_nothing_and_a_second_start_reads_nothing(
    tmp_path, picture, monkeypatch, kind
):
    monkeypatch.setattr(index, "WORTH_SECONDS", -1.0)
    labels = (b"ab", b"c", b"\xff", b"", b"xyz", None, b"a?", b"C", b"D")
    folder = write_set(kind, tmp_path / "set", [(picture, label) for label in labels])
    plain = Charset.from_characters(LETTERS)
    whole = opened(folder, plain, cache=True)
    sizes = whole.sizes(np.arange(9))
    assert whole.case_note().endswith("'C'")
    monkeypatch.setattr(type(whole.reader), "together", 2)
    parts = opened(folder, plain)
    monkeypatch.setattr(type(whole.reader), "blocks", None)
    monkeypatch.setattr(type(whole.reader), "content", None)
    again = opened(folder, plain, cache=True)
    for other in (parts, again):
        for name in ("flat", "label_offsets", "status", "places"):
            np.testing.assert_array_equal(getattr(other.index, name), getattr(whole.index, name))
        assert (other.index.counts, other.index.unknown) == (
            whole.index.counts,
            whole.index.unknown,
        )
    np.testing.assert_array_equal(again.sizes(np.arange(9)), sizes)
    monkeypatch.undo()
    del whole, parts, again, other  # a process may open a file only once
    write_set(kind, folder, [(picture, b"xyz")])  # another set under the same name
    assert texts(opened(folder, cache=True))[0] == "xyz"


@both
def test_stores_that_hold_nothing_to_train_on(tmp_path, kind, monkeypatch):
    with pytest.raises(UserError, match=f"no samples in this {kind} set"):
        opened(write_set(kind, tmp_path / "empty", []))
    with pytest.raises(UserError, match=r"no picture .* nor in the records|features 'image'"):
        opened(write_set(kind, tmp_path / "labels", [(None, b"a")] * 3)).require_pictures()
    modules = {"array_record": "array_record.python.array_record_data_source"}
    monkeypatch.setitem(sys.modules, modules.get(kind, kind), None)
    with pytest.raises(UserError, match=rf"pip install {kind}, or crnn_jax\[{kind}\]"):
        opened(tmp_path / "empty")


def test_a_number_of_samples_that_is_not_theirs(tmp_path, picture):
    samples = [(picture, b"a"), (picture, b"b"), (picture, b"c")]
    more = opened(write_lmdb(tmp_path / "more", samples, count=5))
    assert more.reasons.counts == {MISSING_LABEL: 2}
    assert "image-000000004" in more.reasons.examples[MISSING_LABEL][0]
    with pytest.raises(UserError, match="says 1,000,000, but there are 7 entries"):
        opened(write_lmdb(tmp_path / "most", samples, count=1_000_000))
    fewer = opened(write_lmdb(tmp_path / "fewer", samples, count=2))
    assert texts(fewer) == ["a", "b"]
    assert fewer.notes.examples[LmdbRecords.why_left_out] == ["'image-000000003'"]


def test_keys_that_count_from_zero(tmp_path, picture):
    samples = [(picture, b"a"), (picture, b"b")]
    zero = opened(write_lmdb(tmp_path / "zero", samples, first=0))
    assert texts(zero) == ["a", "b"]
    assert zero.identity(1).endswith("image-000000001")
    stray = opened(write_lmdb(tmp_path / "stray", samples, more=[(b"label-000000000", b"z")]))
    assert texts(stray) == ["a", "b"]


def test_files_that_are_no_such_lmdb(tmp_path, picture):
    for said in ("", "many", "-3"):
        with pytest.raises(UserError, match="no number under 'num-samples'"):
            opened(write_lmdb(tmp_path / f"set{said}", [(picture, b"a")], count=said))
    (tmp_path / "text").mkdir()
    (tmp_path / "text/data.mdb").write_bytes(b"text" * 5000)
    with pytest.raises(UserError, match="cannot be opened as LMDB"):
        opened(tmp_path / "text")
    data = write_lmdb(tmp_path / "cut", [(bytes(8000), b"a")] * 100) / "data.mdb"
    whole = data.stat().st_size
    data.write_bytes(data.read_bytes()[: whole // 2])
    # To read behind the end would kill the process.
    with pytest.raises(UserError, match=rf"data\.mdb: cut short: .* of {whole:,} bytes"):
        opened(tmp_path / "cut")


def test_an_lmdb_is_opened_once_and_left_alone(tmp_path, picture):
    folder = write_lmdb(tmp_path / "set", [(picture, b"ab")])
    (folder / "lock.mdb").unlink()
    before = (folder / "data.mdb").read_bytes()
    one, other = opened(folder), opened(folder)
    assert one.reader._file is other.reader._file
    one.read(np.array([0]))
    assert [p.name for p in folder.iterdir()] == ["data.mdb"]
    assert (folder / "data.mdb").read_bytes() == before


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
        except (ValueError, LookupError):
            continue
        assert all(isinstance(value, bytes) for value in found.values())
    with pytest.raises((ValueError, LookupError)):
        bytes_features(WRITTEN[:30])


def test_shards_follow_each_other(tmp_path, picture):
    shards = [
        [example(image=picture, label=x, text=b"other", path=b"a/%s.png" % x) for x in labels]
        for labels in ([b"ab", b"Cd"], [b"e"], [b"f", b"g", b"h"])
    ]
    source = opened(write_shards(tmp_path / "set", shards))
    assert texts(source) == ["ab", "cd", "e", "f", "g", "h"]
    assert source.identity(2) == str(tmp_path / "set/a/e.png")


def test_a_flipped_bit_costs_its_record_only(tmp_path):
    rng = np.random.default_rng(0)
    made = [example(image=rng.bytes(9000), label=b"a%d" % i) for i in range(40)]
    folder = write_shards(tmp_path / "set", [made])
    (shard,) = folder.iterdir()
    data = bytearray(shard.read_bytes())
    data[100_000] ^= 1
    shard.write_bytes(data)
    source = opened(folder)
    (damaged,) = np.flatnonzero(source.index.status == STATUS.index(DAMAGED_RECORD))
    assert sum(source.text(i) == f"a{i}" for i in range(40)) == 39
    assert source.read(np.array([damaged])) == [images.DAMAGED]


def test_splits_and_missing_shards(tmp_path, picture):
    folder = write_shards(tmp_path / "set", [[example(image=picture, label=b"a")]] * 2)
    write_shards(folder, [[example(image=picture, text=b"b")]], "words-test")
    (folder / "dataset_info.json").write_text("{}")
    with pytest.raises(UserError, match=r"several splits \(test, train\); name one: .*set/train"):
        opened(folder)
    assert texts(opened(folder / "train")) == ["a", "a"]
    assert texts(opened(folder / "test")) == ["b"]
    (folder / "test").touch()
    for other in ("test", "validation", "dataset_info.json"):  # a file beside them, no such split
        assert not find_shards(str(folder / other))
    (folder / "words-train.array_record-00000-of-00002").unlink()
    with pytest.raises(UserError, match=r"shard 0 of 2 of words-train is missing \(1 are there\)"):
        opened(folder / "train")


@pytest.mark.parametrize(
    ("record", "what"),
    [
        (example(label=b"a"), "holds label; want the features 'image'"),
        (b"\xff", r"holds no tf\.train\.Example"),
        (None, "cannot be opened as ArrayRecord"),
    ],
)
def test_shards_that_are_none(tmp_path, record, what):
    folder = write_shards(tmp_path / "set", [[record or example(image=b"x" * 99, label=b"a")]])
    (shard,) = folder.iterdir()
    if record is None:
        shard.write_bytes(shard.read_bytes()[:70_000])
    with pytest.raises(UserError, match=what):
        opened(folder)


@pytest.fixture(scope="module")
def three(words, tmp_path_factory, root):
    """(files, LMDB, ArrayRecord): one broken image and one label outside the table among them."""
    folder = tmp_path_factory.mktemp("three")
    lines = [f"{words.path.parent}/{line}" for line in words.path.read_text().splitlines()]
    write_picture(folder / "broken.png", 20, 60)
    data = (folder / "broken.png").read_bytes()
    (folder / "broken.png").write_bytes(data[: len(data) // 2])
    lines[40] = f"{folder}/broken.png\tab"
    lines[41] = lines[41].partition("\t")[0] + "\ta?"
    lines.append("nowhere.png\tb")
    annotation = folder / "labels.tsv"
    annotation.write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "crnn_jax.shards", "-a", annotation, "-o", folder / "shards"]
    command = [*map(str, command), "--shards", "3"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout == f"{folder}/shards/words/1.0.0: 100 records\n"
    assert run.stderr == f"left out: 1 missing file: {annotation}:101 'b'\n"
    again = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert again.stderr.endswith("words/1.0.0: is there already; name another folder\n")
    annotation.write_text("\n".join(lines[:-1]) + "\n")
    copied("lmdb", FileSource(annotation, words.charset), folder / "lmdb")
    return annotation, folder / "lmdb", folder / "shards/words/1.0.0"


@pytest.mark.parametrize("rule", [Preprocessing(max_width=160), Preprocessing(width=100)])
def test_files_and_stores_give_identical_batches(three, words, rule):
    seen, prints = [], []
    for path in three:
        source = FileSource(path, words.charset)
        options = {"preprocessing": rule, "geometry": "keras", "seed": 3}
        plan = Plan(source, batch_size=8, boundaries=(64, 96), **options)
        prints.append(plan.fingerprint())
        seen.append(list(batches(plan, source, rule, stop=27, augment=darker, seed=3)))
    source = FileSource(three[2], words.charset)
    seen.append(list(batches(plan, source, rule, stop=27, augment=darker, seed=3, workers=1)))
    assert len(set(prints)) == 1
    assert sum(len(batch["failed"]) for batch in seen[0]) == 2  # the broken one, in two epochs
    for other in seen[1:]:
        for left, right in zip(seen[0], other, strict=True):
            assert_equal(left, right)


@pytest.mark.parametrize("how", ["20%", "1/5"])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_split_is_that_of_the_files_and_kept(three, words, monkeypatch, tmp_path, which, how):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(index, "WORTH_SECONDS", -1.0)
    first = FileSource(three[which], words.charset, cache=True).split(how)
    if which != 1:  # paths are the files', which an LMDB does not hold
        for part, other in zip(first, FileSource(three[0], words.charset).split(how), strict=True):
            assert texts(part) == texts(other)
    again = FileSource(three[which], words.charset, cache=True)
    monkeypatch.setattr(FileSource, "_paths", None)
    for old, new in zip(first, again.split(how), strict=True):
        np.testing.assert_array_equal(old.index.places, new.index.places)
    with pytest.raises(TypeError):  # nothing is kept where nothing is to be kept
        FileSource(three[which], words.charset).split(how)


def test_check_looks_at_all_three(three, tmp_path, words):
    files, *stores = (look(path)["sets"][0] for path in three)
    for found in stores:
        for key in ("samples", "trainable", "decoded", "label_lengths", "widths"):
            assert found[key] == files[key]
        assert {r: e["count"] for r, e in found["unusable"].items()} == {
            r: e["count"] for r, e in files["unusable"].items()
        }
    (tmp_path / "labels.tsv").write_text(f"{words.path.parent}/images/0.png\ta\n" * 2)
    annotation = tmp_path / "labels.tsv"
    folder = copied("lmdb", FileSource(annotation, words.charset), tmp_path / "lmdb")
    report = look(annotation, folder)
    assert report["sets"][1]["notes"][SAME_BYTES]["count"] == 1
    assert [(one["by"], one["count"]) for one in report["overlap"]] == [("bytes", 2)]


@pytest.mark.slow
def test_others_read_the_shards_with_tfds_and_we_without(three, words):
    code = (
        "import sys; from crnn_jax.data.files import FileSource; "
        "from crnn_jax.core.charset import Charset; "
        f"print(FileSource({str(three[2])!r}, Charset.from_characters({LETTERS!r})).text(3)); "
        "print([m for m in ('tensorflow', 'tensorflow_datasets', 'jax') if m in sys.modules]); "
        "import tensorflow_datasets as tfds; "
        f"source = tfds.builder_from_directory({str(three[2])!r}).as_data_source('train'); "
        "print(len(source), source[3]['label'], source[3]['image'].shape[2])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    label = words.labels[3]
    assert run.stdout.splitlines()[:3] == [label, "[]", f"100 {label.encode()!r} 3"]
