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
from crnn_jax.data.files import FileSource
from crnn_jax.data.loader import batches
from crnn_jax.data.plan import Plan
from crnn_jax.data.records import bytes_features, find_shards, open_records
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
    source.require_images()
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
        1: images.MISSING, 6: images.EMPTY, 7: images.NO_IMAGE, 8: images.DAMAGED
    }  # fmt: skip
    assert {i: p for i, p in enumerate(read) if isinstance(p, str)} == unreadable
    strict = opened(tmp_path / "set", Charset.from_characters("abdgo"))
    assert (strict.other_case(), strict.index.counts["case"]) == ("A", 1)


@both
def test_stores_that_hold_nothing_to_train_on(tmp_path, kind, monkeypatch):
    with pytest.raises(UserError, match=f"no samples in this {kind} set"):
        opened(write_set(kind, tmp_path / "empty", []))
    with pytest.raises(UserError, match=r"no image .* nor in the records|features 'image'"):
        opened(write_set(kind, tmp_path / "labels", [(None, b"a")] * 3)).require_images()
    modules = {"array_record": "array_record.python.array_record_data_source"}
    monkeypatch.setitem(sys.modules, modules.get(kind, kind), None)
    with pytest.raises(UserError, match=rf"pip install '\.\[{kind}\]'"):
        opened(tmp_path / "empty")


def test_an_example_written_by_tensorflow():
    expected = {"image": b"\0\1\0\1", "label": b"ab"}
    assert bytes_features(WRITTEN) == expected
    for number in (b"\x10\xac\x02", b"\x11" + b"\xff" * 8, b"\x15" + b"\xff" * 4):  # in field 2
        assert bytes_features(number + WRITTEN) == expected


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


def test_an_lmdb_cut_short_is_refused(tmp_path):
    """Reading a page that is not there would kill the process."""
    file = write_lmdb(tmp_path / "lmdb", [(b"x" * 300, b"a")]) / "data.mdb"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"data\.mdb: cut short: "):
        open_records(str(file.parent))


def test_damaged_pages_of_an_lmdb_are_told(tmp_path):
    samples = [(b"x" * 300, b"a%d" % i) for i in range(100)]
    file = write_lmdb(tmp_path / "lmdb", samples) / "data.mdb"
    source, data = opened(file.parent), file.read_bytes()
    page = 4096
    with file.open("r+b") as raw:  # all but the two that LMDB opens by
        raw.seek(2 * page)
        raw.write(bytes(len(data) - 2 * page))
    assert source.read(np.array([5])) == [images.DAMAGED]
    assert source.reader.record(5).status == DAMAGED_RECORD


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
    command[4:7] = [str(folder / "lmdb"), "-o", str(folder / "again")]  # its bytes, not files
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout == f"{folder}/again/words/1.0.0: 100 records\n"
    return annotation, folder / "lmdb", folder / "shards/words/1.0.0"


def test_a_record_without_its_image_is_left_out_of_shards(tmp_path, picture, root):
    samples = [(picture, b"a"), (None, b"b"), (picture, b"w\xff")]
    folder = write_set("lmdb", tmp_path / "set", samples)
    command = [sys.executable, "-m", "crnn_jax.shards", "-a", folder, "-o", tmp_path / "out"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout == f"{tmp_path}/out/words/1.0.0: 1 records\n"
    assert f"1 missing file: {folder}/image-000000002 'b'" in run.stderr
    assert f"1 label not UTF-8: {folder}/image-000000003" in run.stderr
    command[-1:] = [tmp_path / "many", "--shards=2"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "too few images (1) for 2 shards" in run.stderr


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
