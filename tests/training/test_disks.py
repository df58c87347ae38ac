"""Disks that are full, folders that are taken: one line, nothing lost that was saved before."""

import errno
import json
import os

import jax.numpy as jnp
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.training import checkpoints
from crnn_jax.training.checkpoints import Checkpoints
from crnn_jax.training.loop import train_and_evaluate
from crnn_jax.training.logging import Summaries
from crnn_jax.training.workdir import Workdir


@pytest.fixture
def fills(monkeypatch):
    """A disk that is full for the saves of these steps."""

    whole = Checkpoints.save

    def at(*steps):
        def save(self, step, state, meta):
            if step in steps:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.directory))
            whole(self, step, state, meta)

        monkeypatch.setattr(Checkpoints, "save", save)

    return at


def test_a_full_disk_is_told_and_tried_again(config, tmp_path, fills, capsys):
    fills(4, 6)
    train_and_evaluate(config, str(tmp_path / "run"))
    said = capsys.readouterr().err
    assert said.count("step 4 could not be saved: ") == 1
    assert "No space left on device" in said
    assert "training goes on, earlier ones stay" in said
    assert (tmp_path / "run" / "checkpoints" / "latest" / "12").is_dir()
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_last_step_that_cannot_be_saved_ends_no_run(config, tmp_path, fills, capsys):
    fills(12)
    with pytest.raises(UserError, match="step 12 could not be saved"):
        train_and_evaluate(config, str(tmp_path / "run"))
    assert not (tmp_path / "run" / "summary.json").exists()
    fills()
    train_and_evaluate(config, str(tmp_path / "run"))
    assert "going on from step 8" in capsys.readouterr().err
    assert (tmp_path / "run" / "summary.json").exists()


def test_orbax_is_not_asked_where_there_is_no_room(tmp_path, monkeypatch):
    folder = Checkpoints(tmp_path / "latest", keep=2)
    state = {"a": jnp.zeros(1000)}
    folder.save(1, state, {})
    usage = type("Usage", (), {"free": 4500})
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match="No space left"):
        folder.save(2, state, {})
    assert [path.name for path in folder.directory.iterdir()] == ["1"]


def test_rows_wait_for_room(tmp_path):
    class Full:
        """A file that takes half of what it is given, then nothing."""

        def __init__(self, file):
            self.file, self.full = file, True

        def write(self, data):
            if self.full:
                return self.file.write(data[: len(data) // 2])
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    path = tmp_path / "metrics.jsonl"
    summaries = Summaries(path, None, from_step=0)
    summaries.write(1, {"x": 1})
    summaries._file = Full(summaries._file)
    summaries.write(2, {"x": 2})
    assert len(path.read_text().splitlines()) == 1
    summaries._file.full = False
    summaries.write(3, {"x": 3})
    summaries.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_a_workdir_is_made_with_the_folders_above_it(tmp_path):
    workdir = Workdir(tmp_path / "runs" / "words")
    workdir.open({}, with_new_config=False)
    workdir.release()
    assert workdir.path.is_dir()


def test_two_runs_in_one_workdir(tmp_path):
    first, second = Workdir(tmp_path / "run"), Workdir(tmp_path / "run")
    first.open({}, with_new_config=False)
    with pytest.raises(UserError, match="another run is at work in it"):
        second.open({}, with_new_config=False)
    first.release()
    second.open({}, with_new_config=False)
    second.release()


def test_a_workdir_whose_path_is_not_utf_8(tmp_path):
    workdir = Workdir(os.fsdecode(os.fsencode(tmp_path) + b"/run-\xff"))
    with pytest.raises(UserError, match=r"--workdir=.*: its path is not UTF-8"):
        workdir.open({}, with_new_config=False)
    assert not workdir.path.exists()
