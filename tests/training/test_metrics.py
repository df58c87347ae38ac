"""Counts and sums of a run, its best evaluation, and the files and lines they are written to."""

import io
import json
import resource
import sys

import pytest

from crnn_jax.training import logging
from crnn_jax.training.logging import Clock, MetricsWriter, progress_line
from crnn_jax.training.metrics import (
    EMPTY_STEPS,
    BestEvaluation,
    NotFinite,
    NothingRead,
    RunMetrics,
)

BATCH = {"id": [5, 6, -1], "failed": [(6, "unreadable picture")]}
STEP = {"loss_sum": 2.0, "correct": 1.0, "count": 4.0, "infeasible": 1.0, "pixels": 100.0}
STEP |= {"pixels_real": 75.0, "gradient_norm": 3.0, "finite": True}


def add(metrics, batch=BATCH, most=0, name_of=str, **values):
    metrics.add(batch, STEP | values, most, name_of)


def test_means_are_sums_divided_once_also_over_a_stop():
    metrics = RunMetrics()
    add(metrics, loss_sum=0.1)
    metrics = RunMetrics.from_meta(json.loads(json.dumps(metrics.to_meta())))
    add(metrics, loss_sum=0.7, count=1.0)
    row = metrics.take()
    assert row["loss"] == (0.1 + 0.7) / 5.0
    assert row["accuracy"] == 2.0 / 5.0
    assert (row["padding"], row["gradient_norm"], row["infeasible"]) == (0.25, 3.0, 2)
    assert metrics.take()["loss"] == 0.0


def test_batches_of_nothing_end_the_run():
    metrics, nothing = RunMetrics(), {"loss_sum": 0.0, "count": 0.0, "pixels_real": 0.0}
    for _ in range(EMPTY_STEPS - 1):
        add(metrics, **nothing)
    add(metrics)  # an image: it was no disk that is gone
    for _ in range(EMPTY_STEPS - 1):
        add(metrics, **nothing)
    with pytest.raises(NothingRead, match=r"in 10 batches .* \(20 unreadable picture: 6, 6, 6\)"):
        add(metrics, **nothing)


def test_not_finite_steps_are_left_out_counted_and_end_the_run():
    metrics, nan = RunMetrics(), {"loss_sum": float("nan"), "finite": False}
    add(metrics, most=2, **nan)
    add(metrics, most=2)
    add(metrics, most=2, **nan)
    row = metrics.take()
    assert (row["skipped"], row["loss"], row["gradient_norm"]) == (2, 0.5, 3.0)
    with pytest.raises(NotFinite, match=r"2 steps in a row .* \[\[5, 6\], \[5, 6\]\]"):
        add(metrics, most=2, **nan)


def offer_all(*rows):
    best = BestEvaluation()
    for step, (accuracy, cer) in enumerate(rows, 1):
        best.offer(step, {"accuracy": accuracy, "cer": cer})
    return best


def test_the_best_is_by_accuracy_then_error_rate_then_the_later():
    assert offer_all((0.5, 0.2), (0.6, 0.3), (0.6, 0.4), (0.55, 0.0)).step == 2
    assert offer_all((0.6, 0.3), (0.6, 0.2), (0.6, 0.25)).step == 2
    best = offer_all((0.9, 0.1), (1.0, 0.0), (1.0, 0.0), (1.0, 0.0))
    assert (best.step, best.since) == (4, 2)
    assert [best.exhausted(patience) for patience in (2, 3, 0)] == [True, False, False]


def test_rows_behind_the_checkpoint_are_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lost = b'\0\0\xff\n7\n{"a": 1}\n{"step": "x"}\n'  # of a disk that lost its power
    path.write_bytes(b'{"step": 1}\n' + lost + b'{"step": 2}\n{"step": 3}\n{"st')
    writer = MetricsWriter(path, None, from_step=2)
    writer.write(3, {"train/loss": 1.5})
    writer.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[2]["train/loss"] == 1.5


def test_a_full_disk_neither_blocks_nor_ends_a_run(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
    try:
        writer = MetricsWriter(tmp_path / "metrics.jsonl", tmp_path / "board", from_step=0)
        for step in range(100):  # its queue takes ten
            writer.write(step, {"train/loss": 1.5})
        writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_nobody_has_to_listen(monkeypatch):
    class Closed(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    logging.say("step 1")


def test_speed_is_that_of_steps_alone(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(logging.time, "perf_counter", lambda: now[0])

    def work(on, seconds, inside=0.0):
        with clock.spend(on):
            now[0] += seconds
            if inside:
                work("compiling", inside)

    clock = Clock()
    work("compiling", 30.0)
    work("evaluating", 50.0, inside=20.0)
    first = clock.take(8)
    assert first == {"speed/compiling": 50.0, "speed/waiting": 0.0, "speed/saving": 0.0}
    now[0] += 3.0
    clock.steps = 10
    work("waiting", 1.0)
    work("evaluating", 9.0, inside=2.0)
    second = clock.take(8)
    assert second["speed/images_per_second"] == 10 * 8 / 4.0
    assert (second["speed/waiting"], second["speed/compiling"]) == (0.25, 2.0)
    row = {"train/loss": 1.5, "train/accuracy": 0.25}
    line = progress_line(10, 610, row | second, 8)
    assert line.endswith("  20 images/s  waiting for data 25 %  04:00 of training left")
    assert progress_line(1, 610, row | first, 8) == "step 1/610  loss 1.500  accuracy 0.250"
