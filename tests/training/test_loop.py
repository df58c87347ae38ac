"""Whole runs on rendered digits: stopped and gone on with, extended, started from another model."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.core.model_file import save_model
from crnn_jax.reading.loaded_model import open_model
from crnn_jax.training import loop
from crnn_jax.training.loop import preview, train_and_evaluate
from crnn_jax.training.metrics import NotFinite
from crnn_jax.training.parallel import CompiledStep, Parallel
from tests.testdata.foreign_networks import our_model
from tests.testdata.tiny_model import tiny_metadata
from tests.training.conftest import read_rows, read_summary


@pytest.fixture(scope="module")
def trained(digits_config, tmp_path_factory):
    """A run that nothing stopped, with everything that can be logged; `log` is what it said."""
    folder, config = tmp_path_factory.mktemp("run"), digits_config()
    with config.unlocked():
        config.log.tensorboard = config.log.histograms = True
        config.log.pictures = 5
        config.log.profile = (1, 3)
    with (folder / "log").open("w") as log, contextlib.redirect_stderr(log):
        train_and_evaluate(config, str(folder / "unbroken"))
    return folder / "unbroken"


@pytest.fixture
def finished(trained, tmp_path):
    """A copy of it."""
    return shutil.copytree(trained, tmp_path / "unbroken")


class StopAt:
    """Takes the place of the signal handlers: asks to stop after some steps."""

    alone = False

    def __init__(self, polls):
        self.polls = polls

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def asked(self, _):
        self.polls -= 1
        return self.polls < 0


def test_stopped_twice_and_gone_on_with_equals_never_stopped(
    config, trained, tmp_path, monkeypatch, capsys
):
    workdir, begun = tmp_path / "stopped", time.monotonic()
    for polls in (5, 4):  # in the middle of a log line's window, of an epoch, between checkpoints
        with monkeypatch.context() as patch:
            patch.setattr(loop, "StopRequest", lambda polls=polls: StopAt(polls))
            train_and_evaluate(config, str(workdir))
        assert "run again to go on" in capsys.readouterr().err
        assert not (workdir / "summary.json").exists()
    now, year = time.time(), 365 * 86_400.0
    jumps = itertools.cycle([now, now - year, now + year])
    monkeypatch.setattr(time, "time", lambda: next(jumps))  # a clock that is set meanwhile
    train_and_evaluate(config, str(workdir))
    assert "going on from step" in capsys.readouterr().err
    assert read_rows(workdir) == read_rows(trained)
    assert len(read_rows(workdir)) == 4 + 2  # log lines and evaluations
    found, wanted = read_summary(workdir), read_summary(trained)
    assert 0 <= found.pop("hours") <= (time.monotonic() - begun) / 3600 + 1e-3
    del wanted["hours"]
    assert found == wanted
    models = [(folder / "model.safetensors").read_bytes() for folder in (workdir, trained)]
    assert models[0] == models[1]


@pytest.mark.slow
def test_five_kills_change_nothing(root, tmp_path):
    result = tmp_path / "result.json"
    flags = {"kills": 5, "in_save": 3, "kills_a_run": 5, "steps": 120, "pause": 6, "json": result}
    words = [f"--{key}={value}" for key, value in flags.items()]
    subprocess.run([sys.executable, "experiments/faults/kill.py", *words], cwd=root, check=True)
    found = json.loads(result.read_text())
    assert found["kills"] == 5
    assert found["in_save"] >= 3
    assert found["equal"] == found["runs"]


def test_summary_and_model_file_tell_what_was_made(trained):
    summary = read_summary(trained)
    assert summary["images"] == 12 * 8
    assert 0 <= summary["best_validation"]["accuracy"] <= 1
    metadata = open_model(trained)[1]
    assert metadata["charset"] == [*"0123456789", "<BLK>"]
    assert metadata["training"]["step"] == summary["best_step"]


def test_labels_that_are_not_trained_on_are_told_apart(change, trained, digits, tmp_path):
    rows = [row for row in read_rows(trained) if "validation/count" in row]
    assert [row["validation/unseen_labels_count"] for row in rows] == [10, 10]
    assert rows[0]["validation/accuracy_unseen_labels"] == 0
    said = (trained.parent / "log").read_text()
    assert "  30 of its 40 labels occur in training too\n" in said
    assert " of 40, 0.0000 of the 10 with unseen labels, CER" in said
    labels = tmp_path / "labels.tsv"  # '1' alone occurs twice
    texts = ["1", "1", *(str(i) for i in range(2, 8))]
    lines = (f"{digits.parent}/{i}.png\t{text}\n" for i, text in enumerate(texts))
    labels.write_text("".join(lines))
    config = change({"data.train": str(labels), "data.validation": "", "data.split": "0/8"})
    assert "  1 of its 1 labels occur in training too; --config.data.split='10% by label' " in (
        "\n".join(preview(config, str(tmp_path / "run")))
    )


def test_tensorboard_shows_images_histograms_and_a_trace(trained):
    tensorboard = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = trained / "tensorboard"
    size = {"images": 0, "histograms": 0, "scalars": 0}
    events = tensorboard.EventAccumulator(str(folder), size).Reload()
    (name,) = events.Tags()["images"]
    assert name.startswith("validation/")
    assert [image.step for image in events.Images(name)] == [6, 12]
    assert events.Images(name)[0].height == 2 * 64  # 5 images in rows of 3
    assert "params/logits/bias" in events.Tags()["histograms"]
    assert {"train/loss", "validation/accuracy"} <= set(events.Tags()["scalars"])
    (trace,) = folder.glob("plugins/profile/*/*.xplane.pb")
    assert b"step_num" in trace.read_bytes()  # TensorBoard shows times by step


def test_a_preview_says_what_the_run_says_and_leaves_no_trace(change, trained, tmp_path):
    config = change({"evaluation.patience": 3})
    told = list(preview(config, str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()
    assert told[-1] == f"workdir {tmp_path / 'run'}: a new run"
    assert told[-2] == (
        "an evaluation every 6 steps, 2 in all, the run ends after 3 without a better one"
    )
    said = (trained.parent / "log").read_text().splitlines()
    assert said[: len(told) - 3] == told[:-3]
    finished = f"workdir {trained}: finished at step 12; more epochs would extend it"
    assert list(preview(config, str(trained), with_new_config=True))[-1] == finished
    with pytest.raises(UserError, match=r"evaluation\.patience=0, now it is 3"):  # as the run
        list(preview(config, str(trained)))
    uneven = list(preview(change({"evaluation.every_steps": 5}), str(tmp_path / "run")))
    assert uneven[-2].startswith("an evaluation every 5 steps, 3 in all")  # the last after 12
    begun = list(preview(change({"init_from": str(trained)}), str(tmp_path / "run")))
    assert begun[-2].startswith("an evaluation every 5 steps, 4 in all")  # the first before 1
    for key, wrong in (("optimizer.name", "lion"), ("data.augment", "fierce")):
        with pytest.raises(UserError, match=wrong):
            list(preview(change({key: wrong}), str(tmp_path / "run")))


def test_a_finished_run_says_so_and_more_steps_extend_it(change, finished, capsys):
    assert train_and_evaluate(change({}), str(finished)) is None
    assert "finished at step 12" in capsys.readouterr().err
    # A key of logging is taken, one that changes the numbers is not.
    config = change({"steps": 14, "log.every_steps": 1, "optimizer.learning_rate": 0.5})
    with pytest.raises(UserError, match=r"config.optimizer.learning_rate=0.001, now it is 0.5"):
        train_and_evaluate(config, str(finished))
    state = train_and_evaluate(config, str(finished), with_new_config=True)
    assert int(state.step) == 14
    assert "going on from step 12" in capsys.readouterr().err
    assert read_summary(finished)["steps"] == 14
    # Of the first step, which compiled, there is no speed.
    lines = (finished / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["step"] > 12 and "train/loss" in row]
    assert ["speed/images_per_second" in row for row in rows] == [False, True]
    assert [row["speed/compiling"] > 0 for row in rows] == [True, False]


NOT_FITTING = {
    "model.name": "crnn_small",
    "model.geometry": "torch",
    "preprocessing.channels": 3,
    "charset.characters": "9876543210",
    "optimizer.name": "sgd",
    "optimizer.ema_decay": 0.0,
    "optimizer.gradient_accumulation_steps": 2,
    "optimizer.clip_norm": 0.0,
    "freeze": ("cnn",),
}


@pytest.mark.parametrize("key", NOT_FITTING)
def test_a_config_that_the_checkpoints_do_not_fit_is_one_line(change, trained, key):
    config = change({key: NOT_FITTING[key], "steps": 13})
    with pytest.raises(UserError, match=key.removesuffix(".characters")) as raised:
        train_and_evaluate(config, str(trained), with_new_config=True)
    assert str(trained) in str(raised.value)


def test_a_mistake_does_not_bind_the_next_try(change, tmp_path):
    with pytest.raises(UserError, match="lion"):
        train_and_evaluate(change({"optimizer.name": "lion"}), str(tmp_path / "run"))
    assert not (tmp_path / "run" / "config.json").exists()
    with pytest.raises(UserError, match="batch_size: 12 does not divide by 8 devices"):
        Parallel("jit", jax.devices()).check_batch_sizes(change({"batch_size": 12}))


def test_start_from_another_model_with_another_table(change, trained, tmp_path, capsys):
    """Known characters and frozen stages keep their weights."""
    config = change({"steps": 1, "init_from": str(trained), "charset.characters": "9876543210x"})
    change(
        {"freeze": ("cnn", "bi_lstm1"), "optimizer.learning_rate": 1e-6, "optimizer.ema_decay": 0.0}
    )
    state = train_and_evaluate(config, str(tmp_path / "new"))
    said = capsys.readouterr().err
    assert "11 of 12 classes kept" in said
    assert "new characters: 'x'" in said
    old, _ = open_model(trained)
    kernel, before = np.asarray(state.params["logits"]["kernel"]), old["params"]["logits"]["kernel"]
    # Adam's first step moves a weight by the rate at most.
    np.testing.assert_allclose(kernel[:, :10], before[:, 9::-1], atol=1.2e-6)
    np.testing.assert_allclose(kernel[:, 11], before[:, 10], atol=1.2e-6)
    assert not np.array_equal(kernel[:, 11], before[:, 10])
    for name in ("conv1", "bn3", "bi_lstm1"):
        jax.tree.map(np.testing.assert_array_equal, state.params[name], old["params"][name])
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, old["batch_stats"])


def test_a_run_keeps_the_model_that_it_starts_from_if_training_makes_it_worse(
    change, trained, tmp_path, capsys
):
    run = tmp_path / "run"
    config = change({"steps": 2, "init_from": str(trained), "evaluation.every_steps": 1})
    change({"optimizer.learning_rate": 10.0, "optimizer.warmup_steps": 0, "log.every_steps": 1})
    for _ in range(2):  # the second time as if killed before it saved
        train_and_evaluate(config, str(run))
        assert "best at step 0: accuracy" in capsys.readouterr().err
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        evaluated = [row["step"] for row in rows if "validation/accuracy" in row]
        assert evaluated == [0, 1, 2]
        old, new = open_model(trained)[0], open_model(run)[0]
        jax.tree.map(np.testing.assert_array_equal, old["params"], new["params"])
        shutil.rmtree(run / "checkpoints" / "latest")
        (run / "summary.json").unlink()


@pytest.mark.slow
def test_a_run_that_goes_on_needs_its_init_from_no_more(change, tmp_path, capsys):
    path = tmp_path / "other.safetensors"
    variables, metadata = our_model()
    rule = tiny_metadata()["preprocessing"] | {"mean": 100.0, "antialias": False}
    save_model(path, variables, metadata | {"preprocessing": rule})
    train_and_evaluate(change({"steps": 1, "init_from": str(path)}), str(tmp_path / "run"))
    path.unlink()
    train_and_evaluate(change({"steps": 2}), str(tmp_path / "run"))
    assert "going on from step 1" in capsys.readouterr().err
    saved = open_model(tmp_path / "run")[1]
    assert saved["preprocessing"] == rule | {"width": 64, "max_width": 128}
    assert saved["model"]["bn_epsilon"] == metadata["model"]["bn_epsilon"]


@pytest.mark.slow
def test_a_signal_while_compiling_is_not_waited_for(change, tmp_path, monkeypatch, capsys):
    def interrupted(program):
        os.kill(os.getpid(), signal.SIGINT)
        yield
        pytest.fail("waited for the next shape")

    monkeypatch.setattr(CompiledStep, "wait", interrupted)
    train_and_evaluate(change({"steps": 2}), str(tmp_path / "run"))
    assert "stopped at step 0 of 2, run again to go on" in capsys.readouterr().err


@pytest.mark.slow
def test_a_table_made_from_labels_stays(change, digits, tmp_path):
    """New labels later must not move the classes of a network that is there."""
    labels, workdir = tmp_path / "labels.tsv", tmp_path / "run"
    labels.write_text("".join(f"{digits.parent}/{i}.png\t{i}\n" for i in range(8)))
    config = change({"steps": 1, "charset.characters": "", "data.train": str(labels)})
    train_and_evaluate(config, str(workdir))
    table = (workdir / "table.txt").read_text()
    assert set("01234567") <= set(table)
    assert "8" not in table
    labels.write_text(labels.read_text() + f"{digits.parent}/8.png\t8\n")
    train_and_evaluate(change({"steps": 2}), str(workdir), with_new_config=True)
    assert (workdir / "table.txt").read_text() == table


@pytest.mark.slow
def test_a_run_without_finite_gradients_is_saved_and_ends(change, tmp_path):
    config = change({"optimizer.max_nonfinite_steps": 3, "optimizer.learning_rate": 1e30})
    with pytest.raises(NotFinite, match=r"3 steps in a row .* samples \[\["):
        train_and_evaluate(change({"data.validation": ""}), str(tmp_path / "run"))
    assert (tmp_path / "run" / "checkpoints" / "latest").exists()
    assert config.steps == 12


@pytest.mark.slow
def test_early_stop(change, tmp_path):
    change({"steps": 30, "evaluation.every_steps": 2, "evaluation.patience": 2})
    # Nothing gets better.
    config = change(
        {"optimizer.learning_rate": 0.0, "optimizer.ema_decay": 0.0, "model.bn_momentum": 1.0}
    )
    run = tmp_path / "run"
    state = train_and_evaluate(config, str(run))
    assert int(state.step) == 6
    assert read_summary(run)["best_step"] == 6  # of equals the later
    (run / "summary.json").unlink()  # killed before it was written
    assert int(train_and_evaluate(config, str(run)).step) == 6
    assert train_and_evaluate(config, str(run)) is None
    state = train_and_evaluate(change({"steps": 40}), str(run), with_new_config=True)
    assert (int(state.step), read_summary(run)["steps"]) == (10, 10)  # patience began anew
