"""Counts and sums of a run, and the files they are written to."""

import json

import pytest

from crnn_jax.training.logging import Summaries, duration
from crnn_jax.training.metrics import EMPTY_STEPS, NotFinite, NothingRead, Tally


def _metrics(loss=2.0, finite=True, count=4.0):
    return {
        "loss_sum": loss,
        "correct": 1.0,
        "count": count,
        "infeasible": 1.0,
        "pixels": 100.0,
        "pixels_real": 75.0,
        "gradient_norm": 3.0,
        "finite": finite,
    }


BATCH = {"id": [5, 6, -1], "failed": [(6, "unreadable picture")]}


def test_means_are_sums_divided_once():
    tally = Tally()
    tally.add(BATCH, _metrics(loss=2.0, count=4.0), 0)
    tally.add(BATCH, _metrics(loss=7.0, count=1.0), 0)
    other = {"missing file": {"count": 3, "examples": ["a.png", "b.png"]}}
    assert tally.share(lambda told: [told, other]) == [
        "left out of its batch: 6: unreadable picture",
        "left out of its batch: 6: unreadable picture",
        "left out of its batch: a.png: missing file",
        "left out of its batch: b.png: missing file",
    ]
    row = tally.take()
    assert row["loss"] == 9.0 / 5.0
    assert row["accuracy"] == 2.0 / 5.0
    assert row["padding"] == 0.25
    assert row["gradient_norm"] == 3.0
    assert row["infeasible"] == 2
    assert row["failed"] == 2 + 3
    assert tally.share(lambda told: [told]) == []
    assert tally.failed.counts == {"unreadable picture": 2, "missing file": 3}  # told once
    assert tally.take()["loss"] == 0.0


def test_meta_survives_json_exactly():
    tally = Tally()
    tally.add(BATCH, _metrics(loss=0.1), 0)
    again = Tally.from_meta(json.loads(json.dumps(tally.to_meta())))
    for one in (tally, again):
        one.add(BATCH, _metrics(loss=0.2), 0)
    assert again.take() == tally.take()


def test_what_cannot_be_read_is_named_a_few_times_and_counted_always():
    tally, lines = Tally(), []
    for i in range(12):
        batch = {"id": [i], "failed": [(i, "missing file")]}
        tally.add(batch, _metrics(), 0, lambda sample: f"{sample}\x1b.png")
        lines += tally.share(lambda told: [told])
    assert lines[0] == "left out of its batch: '0\\x1b.png': missing file"
    assert len(lines) == 5
    again = Tally.from_meta(json.loads(json.dumps(tally.to_meta())))
    assert again.failed.counts == {"missing file": 12}
    assert again.share(lambda told: [{"missing file": {"count": 1, "examples": ["x"]}}]) == []


def test_the_counts_of_a_run_begun_before_there_were_names():
    meta = Tally().to_meta() | {"failed": {"missing file": 3}}
    assert Tally.from_meta(meta).failed.counts == {"missing file": 3}


def test_batches_of_nothing_end_the_run():
    nothing = _metrics(loss=0.0, count=0.0) | {"pixels_real": 0.0}
    tally = Tally()
    for _ in range(EMPTY_STEPS - 1):
        tally.add(BATCH, nothing, 0)
    tally.add(BATCH, _metrics(), 0)  # a picture: it was no disk that is gone
    for _ in range(EMPTY_STEPS - 1):
        tally.add(BATCH, nothing, 0)
    with pytest.raises(NothingRead, match=r"in 10 batches .* \(20 unreadable picture: 6, 6, 6\)"):
        tally.add(BATCH, nothing, 0)


def test_not_finite_steps_are_left_out_counted_and_end_the_run():
    tally = Tally()
    nan = _metrics(loss=float("nan"), finite=False)
    tally.add(BATCH, nan, 2)
    tally.add(BATCH, _metrics(), 2)
    tally.add(BATCH, nan, 2)
    row = tally.take()
    assert row["skipped"] == 2
    assert row["loss"] == 0.5
    with pytest.raises(NotFinite, match=r"2 steps in a row .* \[\[5, 6\], \[5, 6\]\]"):
        tally.add(BATCH, nan, 2)


def test_rows_behind_the_checkpoint_are_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lost = b'\0\0\xff\n7\n{"a": 1}\n{"step": "x"}\n'  # of a disk that lost its power
    path.write_bytes(b'{"step": 1}\n' + lost + b'{"step": 2}\n{"step": 3}\n{"st')
    summaries = Summaries(path, None, from_step=2)
    summaries.write(3, {"train/loss": 1.5})
    summaries.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[2]["train/loss"] == 1.5


def test_tensorboard_is_written_without_tensorflow(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys, pathlib; from crnn_jax.training.logging import Summaries\n"
        's = Summaries(pathlib.Path(sys.argv[1]) / "m", pathlib.Path(sys.argv[1]) / "b", '
        "from_step=0)\n"
        's.write(1, {"train/loss": 2.0}); s.close()\n'
        'print("tensorflow" in sys.modules)'
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
    events = list((tmp_path / "b").glob("events*"))
    assert b"train/loss" in events[0].read_bytes()


def test_duration():
    assert duration(61.6) == "01:02"
    assert duration(3723) == "1:02:03"
