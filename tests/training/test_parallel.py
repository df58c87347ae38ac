"""Several processes give what one gives, stop together, and go on after one of them was killed."""

import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.core.model_file import load_model
from crnn_jax.reading.checkpoint import read_variables
from crnn_jax.training import parallel
from crnn_jax.training.parallel import CompiledStep, Parallel, StopRequest
from tests.training.conftest import read_rows, read_summary


def test_each_shape_is_compiled_once_before_it_is_wanted():
    traced = []

    def step(state, batch):
        traced.append(batch["image"].shape)
        return state + batch["image"].sum(), {}

    def batch(width, labels=3):
        return {"image": np.ones((2, 4, width, 1)), "label": np.zeros((2, labels), np.int32)}

    one = Parallel("jit", jax.devices()[:1])
    compiled = CompiledStep(one, jax.jit(step), np.float32(0), [batch(5), batch(7)])
    assert len(list(compiled.wait())) == len(compiled) == 2
    assert compiled.program(batch(7)).done()
    assert compiled.is_new(batch(7))
    assert compiled(np.float32(1), batch(7))[0] == 1 + 2 * 4 * 7
    assert not compiled.is_new(batch(7))
    assert compiled.is_new(batch(5))
    assert compiled(np.float32(0), batch(5))[0] == 2 * 4 * 5
    assert compiled(np.float32(0), batch(9))[0] == 2 * 4 * 9  # nobody said that it would come
    assert compiled(np.float32(0), batch(9, labels=4))[0] == 2 * 4 * 9
    assert len(traced) == 4
    compiled.close()


@pytest.mark.parametrize("arguments", [("127.0.0.1:1", 0, -1), ("127.0.0.1:1", 2, 2)])
def test_mistakes_in_joining(arguments):
    with pytest.raises(UserError, match="give all three"):
        parallel.join(*arguments)


def test_after_a_run_signals_do_what_they_did():
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    with StopRequest() as stop:
        assert not stop.asked(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked(2)
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_second_ctrl_c_leaves_at_once():
    """Nothing is waited for, not even the step that runs."""
    code = (
        "import os, signal, time\n"
        "from crnn_jax.training.parallel import StopRequest\n"
        "with StopRequest() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    assert stop.asked(1)\n"
        "    print('asked', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.returncode) == ("asked\n", 130)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def environment(root, devices):
    kept = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    flags = f"--xla_force_host_platform_device_count={devices}"
    return kept | {"XLA_FLAGS": flags, "PYTHONPATH": str(root)}


class Runs:
    """Starts the same small run as one or as two processes of one device each."""

    def __init__(self, root, digits, tmp_path):
        self.root, self.tmp_path = root, tmp_path
        settings = {
            "charset.table": root / "example/table.txt",
            "data.train": digits,
            "data.validation": digits.with_name("validation.tsv"),
            "data.cache": False,
            "preprocessing.width": 64,
            "optimizer.name": "sgd",
            "optimizer.ema_decay": 0.9,
            "checkpoint.every_steps": 4,
            "evaluation.every_steps": 8,
            "log.every_steps": 4,
        }
        self.words = [sys.executable, "-m", "crnn_jax.main", f"--config={root}/configs/tiny.py"]
        self.words += [f"--config.{key}={value}" for key, value in settings.items()]

    def start(self, workdir, processes, steps, *more):
        address, started = f"127.0.0.1:{free_port()}", []
        for i in range(processes):
            seat = self.tmp_path / f"seat-{i}"  # current folder; `mount` leads to what all share
            seat.mkdir(exist_ok=True)
            mount = seat / "mount"
            if not mount.exists():
                mount.symlink_to(self.tmp_path)
            words = [*self.words, *more, f"--config.steps={steps}"]
            words += [f"--workdir={mount / workdir.relative_to(self.tmp_path)}"]
            if processes > 1:
                words += [f"--coordinator={address}", f"--processes={processes}", f"--process={i}"]
            with (self.tmp_path / f"log-{i}").open("a") as log:
                env = environment(self.root, 1)
                started.append(subprocess.Popen(words, cwd=seat, env=env, stderr=log))
        return started

    def finish(self, *arguments):
        codes = [run.wait(240) for run in self.start(*arguments)]
        log = (self.tmp_path / "log-0").read_text()
        assert set(codes) == {0}, log[-3000:]
        return log


@pytest.fixture
def runs(root, digits, tmp_path):
    return Runs(root, digits, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_two_processes_give_what_one_gives(runs, tmp_path, mode):
    one, two = tmp_path / "one", tmp_path / "two"
    runs.finish(one, 1, 8, f"--config.parallel={mode}")
    assert "2 x cpu" in runs.finish(two, 2, 8, f"--config.parallel={mode}")
    for wanted, got in zip(read_rows(one), read_rows(two), strict=True):
        assert wanted.keys() == got.keys()
        for name, value in wanted.items():
            if isinstance(value, dict):  # counts by reason
                assert got[name] == value
            else:
                np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    (wanted, _), (got, _) = (load_model(w / "model.safetensors") for w in (one, two))
    near = functools.partial(np.testing.assert_allclose, atol=2e-5)
    jax.tree.map(near, got, wanted)
    saved, _ = read_variables(two)  # by one process, what two have saved
    jax.tree.map(np.testing.assert_array_equal, saved, got)


@pytest.mark.slow
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
    assert read_rows(workdir) == read_rows(whole)
    assert read_summary(workdir)["weights_sha256"] == read_summary(whole)["weights_sha256"]


@pytest.mark.slow
def test_processes_that_see_other_files_end_with_a_line(runs, digits, tmp_path):
    for i in range(2):
        shutil.copytree(digits.parent, tmp_path / f"seat-{i}" / "set")
    labels = tmp_path / "seat-1" / "set" / "labels.tsv"
    labels.write_text(labels.read_text().replace("\t0\n", "\t1\n", 1))
    files = ["--config.data.train=set/labels.tsv", "--config.data.validation="]
    assert [run.wait(120) for run in runs.start(tmp_path / "run", 2, 1, *files)] == [2, 2]
    for i in range(2):
        log = (tmp_path / f"log-{i}").read_text()
        assert "error: process 1 sees other training data than process 0\n" in log
        assert "Traceback" not in log
