"""Whole runs on rendered digits: stopped and gone on with, extended, started from another model."""

import json
import shutil

import jax
import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.core.model_file import save_model
from crnn_jax.reading.loaded_model import open_model
from crnn_jax.training import loop
from crnn_jax.training.loop import train_and_evaluate
from crnn_jax.training.logging import TIMES
from tests.testdata.foreign_networks import our_model
from tests.testdata.tiny_model import tiny_metadata


def _rows(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def _summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


@pytest.fixture(scope="module")
def trained(digits_config, tmp_path_factory):
    """A run that nothing stopped."""
    workdir = tmp_path_factory.mktemp("run") / "unbroken"
    train_and_evaluate(digits_config(), str(workdir))
    return workdir


@pytest.fixture
def finished(trained, tmp_path):
    """A copy of it."""
    return shutil.copytree(trained, tmp_path / "unbroken")


class _StopAt:
    """Takes the place of the signal handlers: asks to stop after some steps."""

    def __init__(self, polls):
        self.polls = polls

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    @property
    def asked(self):
        self.polls -= 1
        return self.polls < 0


def test_stopped_twice_and_gone_on_with_equals_never_stopped(
    config, finished, tmp_path, monkeypatch, capsys
):
    workdir = tmp_path / "stopped"
    for polls in (5, 4):  # in the middle of a log line's window, of an epoch, between checkpoints
        monkeypatch.setattr(loop, "StopRequest", lambda polls=polls: _StopAt(polls))
        train_and_evaluate(config, str(workdir))
        assert "run again to go on" in capsys.readouterr().err
        assert not (workdir / "summary.json").exists()
    monkeypatch.undo()
    train_and_evaluate(config, str(workdir))
    assert "going on from step" in capsys.readouterr().err
    assert _rows(workdir) == _rows(finished)
    assert len(_rows(workdir)) == 4 + 2  # log lines and evaluations
    assert _summary(workdir)["weights_sha256"] == _summary(finished)["weights_sha256"]
    assert (workdir / "model.safetensors").read_bytes() == (
        finished / "model.safetensors"
    ).read_bytes()


def test_finished_run_says_so_and_more_steps_extend_it(config, finished, capsys):
    assert train_and_evaluate(config, str(finished)) is None
    assert "finished at step 12" in capsys.readouterr().err
    with config.unlocked():
        config.steps = 14
    state = train_and_evaluate(config, str(finished))
    assert int(state.step) == 14
    assert "going on from step 12" in capsys.readouterr().err
    assert _summary(finished)["steps"] == 14


def test_another_config_is_refused_by_key_and_values(config, finished, capsys):
    with config.unlocked():
        config.steps = 14
        config.log.every_steps = 2  # a logging key is taken
        config.optimizer.learning_rate = 0.5
    with pytest.raises(UserError, match=r"config.optimizer.learning_rate=0.001, now it is 0.5"):
        train_and_evaluate(config, str(finished))
    train_and_evaluate(config, str(finished), with_new_config=True)
    assert _summary(finished)["steps"] == 14


def test_a_mistake_in_the_first_try_does_not_bind_the_second(config, tmp_path):
    with config.unlocked():
        config.steps = 1
        config.optimizer.name = "lion"
    with pytest.raises(UserError, match="lion"):
        train_and_evaluate(config, str(tmp_path / "run"))
    with config.unlocked():
        config.optimizer.name = "adam"
    assert int(train_and_evaluate(config, str(tmp_path / "run")).step) == 1


def test_summary_and_model_file_tell_what_was_made(config, finished):
    summary = _summary(finished)
    assert summary["images"] == 12 * 8
    assert 0 <= summary["best_validation"]["accuracy"] <= 1
    variables, metadata = open_model(finished / "model.safetensors")
    assert metadata["charset"] == [*"0123456789", "<BLK>"]
    assert metadata["training"]["step"] == summary["best_step"]
    best, _ = open_model(finished)
    jax.tree.map(np.testing.assert_array_equal, variables, best)


def test_no_validation_at_all(config, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(loop.Progress, "show", lambda _, *line: shown.append(line))
    with config.unlocked():
        config.steps = 2
        config.log.every_steps = 1
        config.data.validation = ""
    train_and_evaluate(config, str(tmp_path / "run"))
    (one, _, some), (two, _, none) = shown
    assert (one, two) == (1, 2)
    assert some > 0
    assert none == 0  # seconds left
    assert _summary(tmp_path / "run")["best_validation"] == {}
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_start_from_another_model_with_another_table(config, finished, tmp_path, capsys):
    with config.unlocked():
        config.steps = 1
        config.init_from = str(finished)
        config.charset.characters = "9876543210x"
        config.optimizer.learning_rate = 0.0
        config.optimizer.ema = 0.0
    state = train_and_evaluate(config, str(tmp_path / "new"))
    said = capsys.readouterr().err
    assert "11 of 12 classes carried" in said
    assert "new characters: 'x'" in said
    old, _ = open_model(finished)
    kernel = np.asarray(state.params["logits"]["kernel"])
    np.testing.assert_array_equal(kernel[:, :10], old["params"]["logits"]["kernel"][:, 9::-1])
    np.testing.assert_array_equal(kernel[:, 11], old["params"]["logits"]["kernel"][:, 10])
    np.testing.assert_array_equal(state.params["conv1"]["kernel"], old["params"]["conv1"]["kernel"])


def test_a_run_that_goes_on_needs_its_init_from_no_more(config, tmp_path, capsys):
    path = tmp_path / "other.safetensors"
    variables, metadata = our_model()
    rule = tiny_metadata()["preprocessing"] | {"mean": 100.0, "antialias": False}
    save_model(path, variables, metadata | {"preprocessing": rule})
    with config.unlocked():
        config.steps = 1
        config.init_from = str(path)
    train_and_evaluate(config, str(tmp_path / "run"))
    path.write_text("broken")
    assert train_and_evaluate(config, str(tmp_path / "run")) is None
    path.unlink()
    with config.unlocked():
        config.steps = 2
    train_and_evaluate(config, str(tmp_path / "run"))
    assert "going on from step 1" in capsys.readouterr().err
    stated = open_model(tmp_path / "run")[1]
    assert stated["preprocessing"] == rule | {"width": 64, "max_width": 128}
    assert stated["model"]["bn_epsilon"] == metadata["model"]["bn_epsilon"]


NEW_NETWORKS = {
    "model.name": "crnn_small",
    "model.geometry": "torch",
    "preprocessing.channels": 3,
    "charset.characters": "9876543210",
    "optimizer.name": "sgd",
    "optimizer.ema": 0.0,
    "optimizer.accumulate": 2,
    "optimizer.clip_norm": 0.0,
    "freeze": ("cnn",),
}


@pytest.mark.parametrize("key", NEW_NETWORKS)
def test_a_config_that_the_checkpoints_do_not_fit_is_one_line(config, trained, key):
    section, _, name = key.rpartition(".")
    with config.unlocked():
        (config[section] if section else config)[name] = NEW_NETWORKS[key]
        config.steps = 13
    with pytest.raises(UserError, match=key.removesuffix(".characters")) as told:
        train_and_evaluate(config, str(trained), with_new_config=True)
    assert "\n" not in str(told.value)
    assert str(trained) in str(told.value)


def test_frozen_stages_do_not_move(config, finished, tmp_path):
    with config.unlocked():
        config.steps = 2
        config.init_from = str(finished)
        config.freeze = ("cnn", "bi_lstm1")
        config.optimizer.ema = 0.0
    state = train_and_evaluate(config, str(tmp_path / "frozen"))
    old, _ = open_model(finished)
    for name in ("conv1", "bn3", "bi_lstm1"):
        jax.tree.map(np.testing.assert_array_equal, state.params[name], old["params"][name])
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, old["batch_stats"])
    assert not np.array_equal(state.params["logits"]["bias"], old["params"]["logits"]["bias"])


def test_run_without_finite_gradients_is_saved_and_ends(config, tmp_path, monkeypatch):
    with config.unlocked():
        config.optimizer.max_not_finite = 3
        config.optimizer.learning_rate = 1e30
        config.steps = 12
        config.data.validation = ""
    with pytest.raises(loop.NotFinite, match=r"3 steps in a row .* samples \[\["):
        train_and_evaluate(config, str(tmp_path / "run"))
    assert (tmp_path / "run" / "checkpoints" / "latest").exists()


def test_early_stop(config, tmp_path, capsys):
    with config.unlocked():
        config.steps = 30
        config.optimizer.learning_rate = 0.0  # nothing gets better
        config.optimizer.ema = 0.0
        config.model.bn_momentum = 1.0
        config.evaluation.every_steps = 2
        config.evaluation.patience = 2
    state = train_and_evaluate(config, str(tmp_path / "run"))
    assert int(state.step) == 6
    assert _summary(tmp_path / "run")["best_step"] == 6  # of equals the later


def test_batch_size_that_does_not_divide(config, tmp_path):
    with config.unlocked():
        config.batch_size = 12
    with pytest.raises(UserError, match="batch_size: 12 does not divide by 8 devices"):
        train_and_evaluate(config, str(tmp_path / "run"))


def test_numbers_are_a_function_of_the_seed_and_of_nothing_else(config, trained, tmp_path):
    train_and_evaluate(config, str(tmp_path / "again"))
    assert _rows(tmp_path / "again") == _rows(trained)
    assert _summary(tmp_path / "again")["weights_sha256"] == _summary(trained)["weights_sha256"]
    with config.unlocked():
        config.seed = 1
        config.steps = 3
    train_and_evaluate(config, str(tmp_path / "other"))
    assert _rows(tmp_path / "other")[0]["train/loss"] != _rows(trained)[0]["train/loss"]


def test_out_of_memory_is_one_line(config, tmp_path, monkeypatch):
    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating")

    monkeypatch.setattr(loop.Programs, "__call__", exhausted)
    with pytest.raises(UserError, match=r"out of memory with config\.batch_size=8"):
        train_and_evaluate(config, str(tmp_path / "run"))
