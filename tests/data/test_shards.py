"""The same samples as files, in an LMDB and in ArrayRecord shards give the same batches."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data import index
from crnn_jax.data.check import SAME_BYTES
from crnn_jax.data.files import FileSource
from crnn_jax.data.loader import batches
from crnn_jax.data.mixture import split
from crnn_jax.data.plan import Plan
from tests.data.conftest import write_picture
from tests.data.test_check import look
from tests.data.test_loader import assert_equal, darker
from tests.data.test_records import example, write_lmdb, write_shards

ROOT = Path(__file__).resolve().parents[2]
FREE = Preprocessing(max_width=160)


def to_lmdb(source, folder):
    """As deep-text-recognition-benchmark's create_lmdb_dataset.py: keys from 1, its own labels."""
    pictures = [Path(source.identity(i)).read_bytes() for i in range(len(source))]
    labels = [source.line(i)[1].encode() for i in range(len(source))]
    return write_lmdb(folder, list(zip(pictures, labels, strict=True)))


def to_array_record(source, folder):
    """One shard, as `crnn_jax.shards` writes it."""
    records = []
    for i in range(len(source)):
        path, label = source.line(i)
        image = Path(source.identity(i)).read_bytes()
        records.append(example(image=image, label=label.encode(), path=path.encode()))
    return write_shards(folder, [records])


@pytest.fixture(scope="module")
def three(words, tmp_path_factory):
    """(files, LMDB, ArrayRecord): one broken picture and one label outside the table among them."""
    folder = tmp_path_factory.mktemp("three")
    lines = words.path.read_text().splitlines()
    pictures = words.path.parent
    write_picture(folder / "broken.png", 20, 60)
    data = (folder / "broken.png").read_bytes()
    (folder / "broken.png").write_bytes(data[: len(data) // 2])
    lines = [f"{pictures}/{line}" for line in lines]
    lines[40] = f"{folder}/broken.png\tab"
    lines[41] = lines[41].partition("\t")[0] + "\ta?"
    annotation = folder / "labels.tsv"
    annotation.write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "crnn_jax.shards", "-a", annotation, "-o", folder / "shards"]
    command = [*map(str, command), "--shards", "3"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, f"{folder}/shards/words/1.0.0: 100 records\n"), run
    to_lmdb(FileSource(annotation, words.charset), folder / "lmdb")
    return annotation, folder / "lmdb", folder / "shards/words/1.0.0"


@pytest.mark.parametrize("rule", [FREE, Preprocessing(width=100, channels=3)])
def test_identical_batches(three, words, rule):
    seen, formats, prints = [], [], []
    for path in three:
        source = FileSource(path, words.charset, channels=rule.channels)
        formats.append(source.format)
        plan = Plan(
            source, batch_size=8, boundaries=(64, 96), preprocessing=rule, geometry="keras", seed=3
        )
        prints.append(plan.fingerprint())
        options = {"stop": 27, "augment": darker, "seed": 3}
        seen.append(list(batches(plan, source, rule, **options)))
        seen.append(list(batches(plan, source, rule, workers=2, **options)))
    assert formats == ["tsv", "lmdb", "array_record"]
    assert len(set(prints)) == 1
    assert sum(len(batch["failed"]) for batch in seen[0]) == 2  # the broken one, in two epochs
    for other in seen[1:]:
        for left, right in zip(seen[0], other, strict=True):
            assert_equal(left, right)


def test_a_split_by_path_is_that_of_the_files(three, words):
    files, _, shards = (FileSource(path, words.charset) for path in three)
    for how in ("20%", "1/5"):
        (left, right), others = split(files, how), split(shards, how)
        assert [len(part) for part in others] == [len(left), len(right)]
        assert [others[1].text(i) for i in range(len(right))] == [
            right.text(i) for i in range(len(right))
        ]


@pytest.mark.parametrize("how", ["20%", "1/5"])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_second_split_reads_no_names(three, words, monkeypatch, tmp_path, which, how):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(index, "WORTH_SECONDS", -1.0)
    first = split(FileSource(three[which], words.charset, cache=True), how)
    again = FileSource(three[which], words.charset, cache=True)
    monkeypatch.setattr(FileSource, "written_paths", None)
    for old, new in zip(first, split(again, how), strict=True):
        np.testing.assert_array_equal(old.index.places, new.index.places)
    with pytest.raises(TypeError):  # nothing is kept where nothing is to be kept
        split(FileSource(three[which], words.charset), how)


def test_check_looks_at_all_three(three):
    files, *stores = (look(path)["sets"][0] for path in three)
    for found in stores:
        for key in ("samples", "trainable", "decoded", "label_lengths", "widths"):
            assert found[key] == files[key]
        assert {r: e["count"] for r, e in found["unusable"].items()} == {
            r: e["count"] for r, e in files["unusable"].items()
        }
    assert [found["format"] for found in stores] == ["lmdb", "array_record"]


def test_check_compares_bytes_in_stores(tmp_path, words):
    write_picture(tmp_path / "a.png", 20, 30)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    (tmp_path / "labels.tsv").write_text("a.png\ta\nb.png\tb\n")
    folder = to_lmdb(FileSource(tmp_path / "labels.tsv", words.charset), tmp_path / "lmdb")
    assert look(folder)["sets"][0]["notes"][SAME_BYTES]["count"] == 1
    (overlap,) = look(tmp_path / "labels.tsv", folder)["overlap"]
    assert (overlap["by"], overlap["count"]) == ("bytes", 2)


def test_others_read_the_shards_with_tfds(three, words):
    code = (
        "import sys, tensorflow_datasets as tfds; "
        f"source = tfds.builder_from_directory({str(three[2])!r}).as_data_source('train'); "
        "print(len(source), source[3]['label'], source[3]['image'].shape[2])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["100", repr(words.labels[3].encode()), "3"]


def test_files_that_are_not_there_are_left_out_and_told(tmp_path):
    write_picture(tmp_path / "a.png", 20, 30)
    annotation = tmp_path / "labels.tsv"
    annotation.write_text("a.png\ta b \nnowhere.png\tb\na.png\tc\n")
    command = [sys.executable, "-m", "crnn_jax.shards", "-a", annotation, "-o", tmp_path / "out"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    runs = [subprocess.run(command, check=False, **options) for _ in range(2)]
    assert runs[0].stderr == f"left out: 1 missing file: {annotation}:2 'b'\n"
    assert runs[0].stdout == f"{tmp_path}/out/words/1.0.0: 2 records\n"
    assert runs[1].returncode == 2
    assert runs[1].stderr.endswith("words/1.0.0: is there already; name another folder\n")
