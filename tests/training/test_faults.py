"""Files that vanish, change or lie at the ends of what is possible; disks that are full."""

import errno
import json
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import locked_folder
from crnn_jax.core.images import DAMAGED, MISSING
from crnn_jax.data.source import CHANGED
from crnn_jax.reading.checkpoint import steps
from crnn_jax.training import loop
from crnn_jax.training.checkpoints import Checkpoints, Workdir
from crnn_jax.training.loop import train_and_evaluate
from crnn_jax.training.metrics import BestEvaluation
from tests.training.conftest import read_summary


@pytest.fixture
def copied(change, digits, tmp_path):
    """The config on a copy of the digits whose images keep their widths."""
    folder = shutil.copytree(digits.parent, tmp_path / "digits")
    # The one shape of the other tests: compiled once.
    change({"preprocessing.width": 0, "preprocessing.max_width": 64, "log.every_steps": 2})
    labels = str(folder / "labels.tsv")
    return change({"data.train": labels, "data.validation": labels}), folder


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


def test_images_that_vanish_or_change_are_left_out_counted_and_named(
    copied, change, once_indexed, tmp_path, capsys
):
    _, folder = copied
    config = change({"steps": 5, "evaluation.every_steps": 0})  # an epoch: each is met once

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
    summary = read_summary(tmp_path / "run")
    counts = {reason: found["count"] for reason, found in summary["failed_samples"].items()}
    assert counts == {MISSING: 20, CHANGED: 2, DAMAGED: 1}
    assert summary["failed_samples"][DAMAGED]["examples"] == [str(folder / "22.png")]
    last = summary["last_validation"]
    assert (last["count"], last["unreadable"]) == (40, 23)


def test_a_full_disk_is_named_and_tried_again(change, tmp_path, monkeypatch, capsys):
    """But a last step that cannot be saved ends no run."""
    config, whole = change({"checkpoint.every_steps": 4}), Checkpoints.save

    def save(self, step, state, meta):
        if step in (4, 12):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.directory))
        whole(self, step, state, meta)

    monkeypatch.setattr(Checkpoints, "save", save)
    with pytest.raises(UserError, match="step 12 could not be saved"):
        train_and_evaluate(config, str(tmp_path / "run"))
    said = capsys.readouterr().err
    assert said.count("step 4 could not be saved: ") == 1
    assert "No space left on device" in said
    assert "training goes on, earlier ones stay" in said
    assert not (tmp_path / "run" / "summary.json").exists()
    monkeypatch.undo()
    train_and_evaluate(config, str(tmp_path / "run"))
    assert "going on from step 8" in capsys.readouterr().err
    assert (tmp_path / "run" / "summary.json").exists()


def test_weights_that_could_not_be_kept_are_not_the_best(change, tmp_path, monkeypatch, capsys):
    config = change({"evaluation.every_steps": 4})
    whole, offered, accuracy = Checkpoints.save, BestEvaluation.offer, {4: 0.2, 8: 0.9, 12: 0.5}

    def save(self, step, state, meta):
        if step == 8 and self.directory.name == "best":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.directory))
        whole(self, step, state, meta)

    def offer(self, step, metrics):
        return offered(self, step, metrics | {"accuracy": accuracy[step]})

    monkeypatch.setattr(Checkpoints, "save", save)
    monkeypatch.setattr(BestEvaluation, "offer", offer)
    train_and_evaluate(config, str(tmp_path / "run"))
    assert "step 8 could not be saved: " in capsys.readouterr().err
    assert read_summary(tmp_path / "run")["best_step"] == 12
    assert steps(tmp_path / "run" / "checkpoints" / "best") == [12]


def test_other_samples_are_told(copied, change, tmp_path, capsys):
    config, folder = copied
    train_and_evaluate(config, str(tmp_path / "run"))
    with (folder / "labels.tsv").open("a") as file:
        file.write("0.png\t0\n")
    assert train_and_evaluate(config, str(tmp_path / "run")) is None
    assert re.search(r"41 samples now, 40 when .* --config.init_from=", capsys.readouterr().err)


def test_workdirs_that_cannot_be_used(config, tmp_path):
    folder = tmp_path / "runs" / "run"
    message = r"--workdir=.*/run: another run is at work in it"
    with locked_folder(folder, "--workdir"), pytest.raises(UserError, match=message):
        train_and_evaluate(config, str(folder))
    with locked_folder(folder, "--workdir"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--workdir=.*/file: File exists"):
        train_and_evaluate(config, str(tmp_path / "file"))


def test_a_config_file_with_an_old_name_is_told(config, tmp_path):
    with config.unlocked():
        config.optimizer.ema = 0.9
    with pytest.raises(UserError, match=r"config\.optimizer\.ema is called .*ema_decay"):
        train_and_evaluate(config, str(tmp_path))


def test_a_config_of_before_is_compared_key_by_key(tmp_path):
    workdir = Workdir(tmp_path)
    (workdir.latest / "5.partial").mkdir(parents=True)
    workdir.config.write_text(json.dumps({"steps": 5, "gone": 1, "data": {"boundaries": [1, 2]}}))
    new = {"steps": 5, "data": {"bucket_boundaries": (1, 2), "new": 3}}
    workdir.require_same(new, with_new_config=False)  # killed in its first save: any will do
    (workdir.latest / "5").mkdir()
    with pytest.raises(UserError, match=r"config\.gone=1, now it is None"):
        workdir.require_same(new, with_new_config=False)
    workdir.require_same(new, with_new_config=True)
