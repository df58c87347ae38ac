"""Files that vanish or change while a run reads them, and a clock that jumps."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crnn_jax.core.errors import UserError
from crnn_jax.core.images import DAMAGED, MISSING
from crnn_jax.data.source import CHANGED
from crnn_jax.training import loop
from crnn_jax.training.loop import train_and_evaluate
from crnn_jax.training.metrics import EMPTY_STEPS


@pytest.fixture
def copied(config, digits, tmp_path):
    """The config on a copy of the digits whose pictures keep their widths."""
    folder = shutil.copytree(digits.parent, tmp_path / "digits")
    with config.unlocked():
        config.steps = 6
        config.data.train = config.data.validation = str(folder / "labels.tsv")
        config.preprocessing.width = 0
        config.preprocessing.max_width = 64  # the one shape of the other tests: compiled once
        config.log.every_steps = 2
    return config, folder


@pytest.fixture
def once_indexed(monkeypatch):
    """Has something happen between the index and the first batch."""
    whole = loop.make_experiment

    def then(happen):
        def make(*arguments):
            experiment = whole(*arguments)
            for source in experiment.validation:
                source.sizes(np.arange(len(source)))
            happen()
            return experiment

        monkeypatch.setattr(loop, "make_experiment", make)

    return then


def summary(workdir: Path) -> dict:
    return json.loads((workdir / "summary.json").read_text())


def test_pictures_that_vanish_or_change_are_left_out_counted_and_told(
    copied, once_indexed, tmp_path, capsys
):
    config, folder = copied
    with config.unlocked():
        config.steps = 5  # an epoch: each is met once
        config.evaluation.every_steps = 0

    def happen():
        for i in range(20):
            (folder / f"{i}.png").unlink()
        Image.new("L", (300, 32)).save(folder / "20.png")
        Image.new("L", (9, 9)).save(folder / "21.png")
        data = (folder / "22.png").read_bytes()
        (folder / "22.png").write_bytes(data[: len(data) // 2])

    once_indexed(happen)
    train_and_evaluate(config, str(tmp_path / "run"))
    said = capsys.readouterr().err
    assert said.count(f"left out of its batch: {folder}/") == 5 + 2 + 1  # five of a kind at most
    assert f"left out of its batch: {folder / '22.png'}: {DAMAGED}" in said
    assert f"  counted as wrong: 20 {MISSING}: {folder / '0.png'}" in said
    found = summary(tmp_path / "run")
    counts = {reason: told["count"] for reason, told in found["failed_samples"].items()}
    assert counts == {MISSING: 20, CHANGED: 2, DAMAGED: 1}
    assert found["failed_samples"][DAMAGED]["examples"] == [str(folder / "22.png")]
    last = found["last_validation"]
    assert (last["count"], last["unreadable"]) == (40, 23)


def test_a_disk_that_is_gone_ends_the_run_and_coming_back_goes_on(
    copied, once_indexed, tmp_path, monkeypatch, capsys
):
    config, folder = copied
    with config.unlocked():
        config.steps = EMPTY_STEPS + 5
        config.data.validation = ""
        config.checkpoint.every_steps = 100
    away = tmp_path / "away"

    def happen():
        shutil.copytree(folder, away)
        for path in folder.glob("*.png"):
            path.unlink()

    once_indexed(happen)
    with pytest.raises(UserError, match=r"no picture could be read in 10 batches .*missing file"):
        train_and_evaluate(config, str(tmp_path / "run"))
    capsys.readouterr()
    monkeypatch.undo()
    assert not (tmp_path / "run" / "summary.json").exists()
    shutil.copytree(away, folder, dirs_exist_ok=True)
    train_and_evaluate(config, str(tmp_path / "run"))
    assert "going on from step" in capsys.readouterr().err
    assert summary(tmp_path / "run")["steps"] == EMPTY_STEPS + 5


def test_an_annotation_that_is_cut_short_ends_the_run_and_what_is_trained_is_kept(
    copied, tmp_path, monkeypatch
):
    config, folder = copied
    with config.unlocked():
        config.steps = 30
        config.data.validation = ""
        config.checkpoint.every_steps = config.evaluation.every_steps = 100
    counted = loop.Tally.add

    def add(self, *arguments):
        counted(self, *arguments)
        os.truncate(folder / "labels.tsv", 30)

    monkeypatch.setattr(loop.Tally, "add", add)
    with pytest.raises(UserError, match=r"labels\.tsv: was changed while it was in use"):
        train_and_evaluate(config, str(tmp_path / "run"))
    (saved,) = [int(path.name) for path in (tmp_path / "run/checkpoints/latest").iterdir()]
    assert 1 <= saved < 30


def test_a_clock_that_jumps_changes_nothing(config, tmp_path, monkeypatch):
    with config.unlocked():
        config.steps = 4
        config.data.validation = ""
        config.checkpoint.every_steps = 2
    train_and_evaluate(config, str(tmp_path / "steady"))
    day, year = 86_400.0, 365 * 86_400.0
    now = time.time()
    jumps = iter([now, now - day, now + year, now - year] * 10_000)
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    begun = time.monotonic()
    train_and_evaluate(config, str(tmp_path / "jumping"))
    hours = (time.monotonic() - begun) / 3600
    steady, jumping = summary(tmp_path / "steady"), summary(tmp_path / "jumping")
    assert 0 <= jumping.pop("hours") <= hours + 1e-3
    del steady["hours"]
    assert jumping == steady
    rows = (tmp_path / "jumping/metrics.jsonl").read_text().splitlines()
    assert min(json.loads(row).get("speed/images_per_second", 1) for row in rows) > 0
    kept = [
        [p.name for p in sorted((tmp_path / n / "checkpoints/latest").iterdir())]
        for n in ("steady", "jumping")
    ]
    assert kept[0] == kept[1] == ["2", "4"]
