import dataclasses
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crnn_jax.core import images
from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.files import FileSource
from crnn_jax.data.loader import batches, collate, get_augment, tf_batches
from crnn_jax.data.plan import Plan, PlanRow
from crnn_jax.data.source import CHANGED
from tests.data.conftest import EndlessSource, write_picture

FREE = Preprocessing(max_width=160)


def row_of(ids, width=160, usable=None, epoch=0):
    ids = np.array(ids, np.int64)
    return PlanRow(ids, ids >= 0 if usable is None else np.array(usable), width, 39, epoch)


def darker(image, generator):
    return image // np.uint8(generator.integers(2, 99))


def test_a_batch(words):
    source = FileSource(words.path, words.charset)
    ids = [4, 17, -1, 2]
    batch = collate(row_of(ids), source, FREE)
    assert batch["image"].shape == (4, 32, 160, 1)
    assert batch["mask"].tolist() == [True, True, False, True]
    assert (batch["id"].tolist(), batch["failed"]) == (ids, [])
    for i, sample in enumerate(ids):
        width, length = int(batch["width"][i]), int(batch["label_length"][i])
        assert not batch["image"][i, :, width:].any()
        assert not batch["label"][i, length:].any()
        if sample < 0:
            assert (width, length, batch["text"][i]) == (0, 0, "")
            continue
        picture = Image.open(words.path.parent / f"images/{sample}.png")
        natural = picture.width * 32 / picture.height
        assert width == min(max(int(natural + 0.5), 32), 160)
        expected = np.asarray(picture.resize((width, 32), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(batch["image"][i, :, :width, 0], expected)
        assert batch["text"][i] == words.labels[sample]
        assert batch["label"][i, :length].tolist() == [ord(c) - 97 for c in words.labels[sample]]
    dtypes = [batch[key].dtype.name for key in ("image", "width", "label", "label_length", "mask")]
    assert dtypes == ["uint8", "int32", "int32", "int32", "bool"]


def test_a_label_longer_than_its_axis_fits_no_alignment(words):
    source = FileSource(words.path, words.charset)
    row = dataclasses.replace(row_of([0, 1]), label_axis=1)
    batch = collate(row, source, FREE)
    assert min(map(len, batch["text"])) > 1
    assert (batch["label_length"] > batch["width"]).all()


def test_images_that_cannot_be_read_are_masked_and_named(tmp_path):
    write_picture(tmp_path / "a.png", 20, 30)
    write_picture(tmp_path / "wide.png", 20, 200)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:300])
    path = tmp_path / "labels.txt"
    path.write_text("a.png x\nb.png y\nc.png z\nwide.png w\n")
    source = FileSource(path, Charset.from_characters("wxyz"))
    batch = collate(row_of([0, 1, 2, 3], width=64), source, FREE)
    assert batch["failed"] == [(1, images.DAMAGED), (2, images.MISSING), (3, CHANGED)]
    assert batch["width"].tolist() == [48, 0, 0, 0]
    assert batch["mask"].tolist() == [True, False, False, False]
    assert not batch["image"][1:].any()
    assert batch["label_length"].tolist() == [1, 0, 0, 0]
    assert batch["text"] == ["x", "y", "z", "w"]  # an evaluation counts them as wrong


def test_augmentation_is_a_function_of_seed_epoch_and_sample(words):
    source = FileSource(words.path, words.charset)

    def image(ids, epoch=0, **options):
        batch = collate(row_of(ids, epoch=epoch), source, FREE, augment=darker, **options)
        return batch["image"][ids.index(5)]

    first = image([5, 6])
    np.testing.assert_array_equal(first, image([9, 8, 5]))
    assert (first != image([5], epoch=1)).any()
    assert (first != image([5], seed=1)).any()
    rendered = collate(row_of([7]), EndlessSource([[0]], [(32, 40)]), FREE, augment=darker)
    assert set(rendered["image"][0, :, :40].ravel()) == {8}  # left alone
    assert (get_augment("none"), get_augment(darker)) == (None, darker)
    with pytest.raises(UserError):
        get_augment("a little")


@pytest.fixture
def made(words):
    source = FileSource(words.path, words.charset)
    options = {"preprocessing": FREE, "geometry": "keras", "boundaries": (64, 96)}
    return Plan(source, batch_size=8, seed=1, **options), source, FREE


def assert_equal(left, right):
    assert left.keys() == right.keys()
    for key, value in left.items():
        if isinstance(value, np.ndarray):
            assert value.dtype == right[key].dtype
            np.testing.assert_array_equal(value, right[key])
        else:
            assert value == right[key]


def test_a_start_anywhere_gives_the_plans_order(made):
    seen = list(batches(*made, stop=30, augment=darker))
    for step, batch in enumerate(seen):
        np.testing.assert_array_equal(batch["id"], made[0].row(step).ids)
        assert batch["image"].shape[2] == made[0].row(step).width
        assert batch["image"].flags.owndata
    for start in (13, 29):
        later = batches(*made, start=start, stop=30, augment=darker)
        for left, right in zip(seen[start:], later, strict=True):
            assert_equal(left, right)


def test_processes_give_what_threads_give(made):
    options = {"start": 2, "stop": 16, "augment": darker, "seed": 5}
    processes = batches(*made, workers=2, **options)
    for left, right in zip(batches(*made, **options), processes, strict=True):
        assert_equal(left, right)


@pytest.mark.parametrize("count", [2, 8])
def test_slices_of_hosts_are_the_global_batch(made, count):
    hosts = [list(batches(*made, stop=14, host=(i, count))) for i in range(count)]
    for step, batch in enumerate(batches(*made, stop=14)):
        parts = [host[step] for host in hosts]
        joined = {}
        for key, value in batch.items():
            values = [part[key] for part in parts]
            is_array = isinstance(value, np.ndarray)
            joined[key] = np.concatenate(values) if is_array else [x for v in values for x in v]
        assert_equal(batch, joined)


def test_reading_ahead_is_bounded_and_can_be_left(made):
    asked = []
    row = made[0].row
    made[0].row = lambda step: asked.append(step) or row(step)
    before = threading.active_count()
    stream = batches(*made)
    next(stream)
    time.sleep(0.3)
    stream.close()
    assert len(asked) < 40
    assert threading.active_count() == before


SCRIPT = """
import multiprocessing, os, pickle, signal, sys, time
from crnn_jax.data.loader import batches
from crnn_jax.data.plan import Plan

if __name__ == '__main__':
    source, rule = pickle.load(open(sys.argv[1], 'rb'))
    plan = Plan(source, batch_size=8, preprocessing=rule, geometry='keras')
    stream = batches(plan, source, rule, workers=1)
    next(stream)
    pid = multiprocessing.active_children()[0].pid
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.2)
    more = [next(stream) for _ in range(8)]
    print(pid, 'jax' in sys.modules, len(more), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # a zombie that nobody waits for is dead enough


def test_a_killed_worker_is_told(made):
    stream = batches(*made, workers=1)
    next(stream)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    with pytest.raises(UserError, match="a process that reads images was killed"):
        list(stream)


@pytest.mark.skipif(not os.path.exists("/proc"), reason="looks at /proc")
def test_workers_end_with_a_killed_parent(made, tmp_path, root):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "made").write_bytes(pickle.dumps(made[1:]))
    command = [sys.executable, tmp_path / "script.py", tmp_path / "made"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    output = tmp_path / "output"  # no pipe: the worker would hold it open
    with open(output, "w") as file:
        run = subprocess.run(command, stdout=file, env=environment, check=False)
    assert run.returncode == -9
    pid, jax_imported, more = output.read_text().split()
    assert jax_imported == "False"
    assert more == "8"  # a SIGTERM to all processes does not end it before the run has saved
    ends = time.monotonic() + 5
    while alive(pid) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not alive(pid)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TensorFlow's about itself
@pytest.mark.parametrize("host", [(0, 1), (1, 2)])
def test_tf_data_gives_the_same_batches(words, tmp_path, host):
    pytest.importorskip("tensorflow")
    path = tmp_path / "broken.tsv"
    path.write_text(words.path.read_text() + "images/none.png\té\nimages/gone.png\tab")
    images = str(words.path.parent)
    source = FileSource(path, words.charset, images=images, unknown="strip")
    options = {"boundaries": (64, 96), "preprocessing": FREE, "geometry": "keras", "seed": 2}
    plan = Plan(source, batch_size=8, shuffle=False, all=True, **options)
    given = {"start": 1, "stop": 2 * plan.steps_per_epoch, "host": host, "augment": darker}
    theirs = list(tf_batches(plan, source, FREE, **given))
    assert sum(len(batch["failed"]) for batch in theirs) >= 2
    for left, right in zip(batches(plan, source, FREE, **given), theirs, strict=True):
        assert_equal(left, right)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_tf_data_raises_what_reading_raises(made, monkeypatch):
    pytest.importorskip("tensorflow")

    def gone(image, generator):
        raise UserError("labels.tsv: was changed while it was in use")

    with pytest.raises(UserError, match="was changed while it was in use"):
        next(tf_batches(*made, augment=gone))
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UserError, match=r"data\.loader='threads'"):
        next(tf_batches(*made))
