import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.files import FileSource
from crnn_jax.data.loader import batches
from crnn_jax.data.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
FREE = Preprocessing(max_width=160)


def make(words):
    source = FileSource(words.path, words.charset)
    options = {"preprocessing": FREE, "geometry": "keras", "boundaries": (64, 96)}
    return Plan(source, batch_size=8, seed=1, **options), source


def assert_equal(left, right):
    assert left.keys() == right.keys()
    for key, value in left.items():
        if isinstance(value, np.ndarray):
            assert value.dtype == right[key].dtype
            np.testing.assert_array_equal(value, right[key])
        else:
            assert value == right[key]


def darker(picture, generator):
    return picture // np.uint8(generator.integers(2, 9))


def test_batches_come_in_the_order_of_the_plan(words):
    plan, source = make(words)
    seen = list(batches(plan, source, FREE, start=3, stop=30))
    assert len(seen) == 27
    for step, batch in enumerate(seen, 3):
        np.testing.assert_array_equal(batch["id"], plan.row(step).ids)
        assert batch["image"].shape[2] == plan.row(step).width


def test_starting_later_changes_nothing(words):
    plan, source = make(words)
    seen = list(batches(plan, source, FREE, stop=30, augment=darker))
    for start in (1, 13, 29):
        fresh, _ = make(words)
        later = list(batches(fresh, source, FREE, start=start, stop=30, augment=darker))
        for left, right in zip(seen[start:], later, strict=True):
            assert_equal(left, right)


def test_processes_give_what_threads_give(words):
    plan, source = make(words)
    options = {"start": 2, "stop": 16, "augment": darker, "seed": 5}
    threads = list(batches(plan, source, FREE, **options))
    processes = list(batches(plan, source, FREE, workers=2, **options))
    for left, right in zip(threads, processes, strict=True):
        assert_equal(left, right)


@pytest.mark.parametrize("count", [1, 2, 8])
def test_slices_of_hosts_are_the_global_batch(words, count):
    plan, source = make(words)
    whole = list(batches(plan, source, FREE, stop=14))
    hosts = [list(batches(plan, source, FREE, stop=14, host=(i, count))) for i in range(count)]
    for step, batch in enumerate(whole):
        parts = [host[step] for host in hosts]
        assert {part["id"].size for part in parts} == {8 // count}
        joined = {}
        for key, value in batch.items():
            values = [part[key] for part in parts]
            is_array = isinstance(value, np.ndarray)
            joined[key] = np.concatenate(values) if is_array else [x for v in values for x in v]
        assert_equal(batch, joined)


def test_an_endless_stream_can_be_left(words):
    plan, source = make(words)
    before = threading.active_count()
    stream = batches(plan, source, FREE)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_a_batch_is_the_callers_own(words):
    plan, source = make(words)
    stream = batches(plan, source, FREE, stop=2)
    first = next(stream)
    kept = first["image"].copy()
    next(stream)
    np.testing.assert_array_equal(first["image"], kept)
    assert first["image"].flags.owndata


def test_what_goes_wrong_while_reading_is_raised(words):
    plan, source = make(words)

    def broken(picture, generator):
        raise ArithmeticError("in the middle")

    stream = batches(plan, source, FREE, augment=broken)
    with pytest.raises(ArithmeticError, match="in the middle"):
        next(stream)
    plan.row = lambda step: 1 // 0
    with pytest.raises(ZeroDivisionError):
        next(batches(plan, source, FREE))


def test_what_cannot_be_pickled_is_told(words):
    plan, source = make(words)
    options = {"stop": 2, "augment": lambda picture, _: picture}
    with pytest.raises((AttributeError, pickle.PicklingError)):
        next(batches(plan, source, FREE, workers=2, **options))


def test_reading_ahead_is_bounded(words):
    plan, source = make(words)
    asked = []
    row = plan.row
    plan.row = lambda step: asked.append(step) or row(step)
    stream = batches(plan, source, FREE)
    next(stream)
    time.sleep(0.3)
    seen = len(asked)
    stream.close()
    assert seen < 40


SCRIPT = """
import multiprocessing, os, signal, sys
from crnn_jax.data.files import FileSource
from crnn_jax.data.loader import batches
from crnn_jax.data.plan import Plan
from crnn_jax.core.charset import Charset
from crnn_jax.core.preprocessing import Preprocessing

if __name__ == '__main__':
    source = FileSource(sys.argv[1], Charset.from_characters('abcdefghijklmnopqrstuvwxyz'))
    rule = Preprocessing(width=100)
    plan = Plan(source, batch_size=8, preprocessing=rule, geometry='keras')
    stream = batches(plan, source, rule, workers=1)
    next(stream)
    print(multiprocessing.active_children()[0].pid, 'jax' in sys.modules, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody waits for is dead enough.
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not os.path.exists("/proc"), reason="looks at /proc")
def test_workers_end_with_a_killed_parent(words, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    output = tmp_path / "output"  # no pipe: the worker would hold it open
    with open(output, "w") as file:
        run = subprocess.run(
            [sys.executable, script, words.path],
            stdout=file,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=False,
        )
    assert run.returncode == -9
    pid, jax_imported = output.read_text().split()
    assert jax_imported == "False"
    for _ in range(100):
        if not alive(int(pid)):
            return
        time.sleep(0.05)
    pytest.fail("the worker is still there")
