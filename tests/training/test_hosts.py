"""Two processes give what one gives, stop together, and go on after one of them was killed."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from crnn_jax.spec.errors import UserError
from crnn_jax.spec.model_file import load_model
from crnn_jax.training import hosts
from crnn_jax.training.checkpoints import read_variables
from crnn_jax.training.summaries import TIMES


class Runs:
    """Starts the same small run as one or as two processes of one device each."""

    def __init__(self, root, digits, tmp_path):
        self.root, self.tmp_path = root, tmp_path
        self.words = [
            "--config=configs/tiny.py",
            f"--config.data.train={digits}",
            f"--config.data.validation={digits}",
            "--config.data.cache=False",
            "--config.data.boundaries=()",
            "--config.preprocessing.width=64",
            "--config.optimizer.name=sgd",
            "--config.optimizer.ema=0.9",
            "--config.checkpoint.every_steps=4",
            "--config.evaluation.every_steps=8",
            "--config.log.every_steps=4",
        ]

    def start(self, workdir, processes, steps, *more):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
        environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=1"
        started = []
        for i in range(processes):
            words = [sys.executable, "-m", "crnn_jax.main", *self.words, *more]
            words += [f"--workdir={workdir}", f"--config.steps={steps}"]
            if processes > 1:
                words += [f"--coordinator=127.0.0.1:{port}", f"--processes={processes}"]
                words += [f"--process={i}"]
            with (self.tmp_path / f"log-{i}").open("a") as log:
                run = subprocess.Popen(words, cwd=self.root, env=environment, stderr=log)
            started.append(run)
        return started

    def finish(self, *arguments):
        started = self.start(*arguments)
        codes = [run.wait(240) for run in started]
        log = (self.tmp_path / "log-0").read_text()
        assert set(codes) == {0}, log[-3000:]
        return log


@pytest.fixture
def runs(root, digits, tmp_path):
    return Runs(root, digits, tmp_path)


def rows_of(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_two_processes_give_what_one_gives(runs, tmp_path, mode):
    one, two = tmp_path / "one", tmp_path / "two"
    runs.finish(one, 1, 8, f"--config.parallel={mode}")
    log = runs.finish(two, 2, 8, f"--config.parallel={mode}")
    assert "2 x cpu" in log
    for wanted, got in zip(rows_of(one), rows_of(two), strict=True):
        assert wanted.keys() == got.keys()
        for name, value in wanted.items():
            if isinstance(value, dict):  # counts by reason
                assert got[name] == value
                continue
            np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    (wanted, _), (got, _) = (load_model(w / "model.safetensors") for w in (one, two))
    near = functools.partial(np.testing.assert_allclose, atol=2e-5)
    jax.tree.map(near, got, wanted)
    saved, _ = read_variables(two)  # by one process, what two have saved
    jax.tree.map(np.testing.assert_array_equal, saved, got)


def test_a_signal_to_one_stops_both_and_a_kill_of_one_loses_nothing(runs, tmp_path):
    whole, workdir = tmp_path / "whole", tmp_path / "run"
    runs.finish(whole, 2, 40)
    for number in (signal.SIGTERM, signal.SIGKILL):
        first, second = runs.start(workdir, 2, 40)
        latest = workdir / "checkpoints" / "latest"
        before = set(latest.glob("[0-9]*"))
        while not set(latest.glob("[0-9]*")) - before:
            assert first.poll() is None, (tmp_path / "log-0").read_text()[-3000:]
            time.sleep(0.02)
        second.send_signal(number)
        if number == signal.SIGKILL:
            second.wait(60)
            first.kill()
        codes = [first.wait(120), second.wait(120)]
        if number == signal.SIGTERM:
            assert codes == [0, 0]
            assert "run again to go on" in (tmp_path / "log-0").read_text()
    runs.finish(workdir, 2, 40)
    assert rows_of(workdir) == rows_of(whole)
    hashes = [json.loads((w / "summary.json").read_text()) for w in (whole, workdir)]
    assert hashes[0]["weights_sha256"] == hashes[1]["weights_sha256"]


def test_one_process_has_nobody_to_ask():
    assert hosts.first()
    hosts.wait("nothing")
    assert hosts.gather({"a": 1}) == [{"a": 1}]
    hosts.require_equal("anything", "x")
    assert hosts.stop_asked(True, 3)
    assert not hosts.stop_asked(False, 3)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [(("127.0.0.1:1", 0, -1), "give all three"), (("127.0.0.1:1", 2, 2), "between 0 and 1")],
)
def test_mistakes_in_joining(arguments, what):
    with pytest.raises(UserError, match=what):
        hosts.join(*arguments)
