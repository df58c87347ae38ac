"""Counts and sums of a run, and the files they are written to."""

import json

import pytest

from crnn_jax.training.summaries import Summaries, duration
from crnn_jax.training.tally import NotFinite, Tally


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
    tally.share(lambda counts: [counts, {"missing file": 3}])  # another process told so
    row = tally.take()
    assert row["loss"] == 9.0 / 5.0
    assert row["accuracy"] == 2.0 / 5.0
    assert row["padding"] == 0.25
    assert row["gradient_norm"] == 3.0
    assert row["infeasible"] == 2
    assert row["failed"] == 2 + 3
    tally.share(lambda counts: [counts])
    assert tally.failed == {"unreadable picture": 2, "missing file": 3}  # told once
    assert tally.take()["loss"] == 0.0


def test_meta_survives_json_exactly():
    tally = Tally()
    tally.add(BATCH, _metrics(loss=0.1), 0)
    again = Tally.from_meta(json.loads(json.dumps(tally.to_meta())))
    for one in (tally, again):
        one.add(BATCH, _metrics(loss=0.2), 0)
    assert again.take() == tally.take()


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
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
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
        "import sys, pathlib; from crnn_jax.training.summaries import Summaries\n"
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
