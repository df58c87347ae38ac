"""Two processes give what one gives, stop together, and go on after one of them was killed."""

import functools
import json
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
from crnn_jax.core.model_file import load_model, save_model
from crnn_jax.models.crnn import CRNN
from crnn_jax.reading.checkpoint import read_variables
from crnn_jax.training import hosts
from crnn_jax.training.experiment import make_experiment
from crnn_jax.training.state import init_variables
from crnn_jax.training.logging import TIMES


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Runs:
    """Starts the same small run as one or as two processes of one device each."""

    def __init__(self, root, digits, tmp_path):
        self.root, self.tmp_path = root, tmp_path
        self.program = ["-m", "crnn_jax.main"]
        self.words = [
            f"--config={root}/configs/tiny.py",
            f"--config.charset.table={root}/example/table.txt",
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
        port = free_port()
        environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
        environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=1"
        environment["PYTHONPATH"] = str(self.root)
        started = []
        for i in range(processes):
            seat = self.tmp_path / f"seat-{i}"  # current folder; `mount` leads to what all share
            seat.mkdir(exist_ok=True)
            mount = seat / "mount"
            if not mount.exists():
                mount.symlink_to(self.tmp_path)
            words = [sys.executable, *self.program, *self.words, *more]
            words += [f"--workdir={mount / workdir.relative_to(self.tmp_path)}"]
            words += [f"--config.steps={steps}"]
            if processes > 1:
                words += [f"--coordinator=127.0.0.1:{port}", f"--processes={processes}"]
                words += [f"--process={i}"]
            with (self.tmp_path / f"log-{i}").open("a") as log:
                run = subprocess.Popen(words, cwd=seat, env=environment, stderr=log)
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
    assert rows_of(workdir) == rows_of(whole)
    hashes = [json.loads((w / "summary.json").read_text()) for w in (whole, workdir)]
    assert hashes[0]["weights_sha256"] == hashes[1]["weights_sha256"]


COUNTS_READS = """
from crnn_jax import cli, main
from crnn_jax.data.files import FileSource

read = FileSource.read

def counted(self, ids):
    if self.name == "validation/labels.tsv":
        with open("read.txt", "a") as file:
            print(*ids, sep="\\n", file=file)
    return read(self, ids)

FileSource.read = counted
cli.run(main.main)
"""


@pytest.mark.slow
def test_each_process_decodes_its_part_of_the_validation_set(runs, digits, tmp_path):
    for i in range(2):
        shutil.copytree(digits.parent, tmp_path / f"seat-{i}" / "validation")
    runs.program = ["-c", COUNTS_READS]
    runs.finish(tmp_path / "run", 2, 1, "--config.data.validation=validation/labels.tsv")
    reads = [(tmp_path / f"seat-{i}" / "read.txt").read_text().split() for i in range(2)]
    first, second = (set(r[-20:]) for r in reads)  # before them: what processes compare
    assert not first & second
    assert len(first | second) == 40
    assert rows_of(tmp_path / "run")[-1]["validation/count"] == 40


def _other_picture(seat):
    shutil.copy(seat / "set" / "4.png", seat / "set" / "0.png")  # of the same size


def _other_label(seat):
    labels = seat / "validation" / "labels.tsv"
    labels.write_text(labels.read_text().replace("\t0\n", "\t1\n", 1))


def _other_weights(seat):
    variables, metadata = load_model(seat / "start.safetensors")
    variables["params"]["logits"]["bias"] = variables["params"]["logits"]["bias"] + 1
    save_model(seat / "start.safetensors", variables, metadata)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_other_picture, "training data"),
        (_other_label, "validation data (validation/labels.tsv)"),
        (_other_weights, "first weights (init_from)"),
    ],
)
def test_processes_that_see_other_files_end_with_a_line(
    runs, digits, digits_config, tmp_path, change, what
):
    experiment = make_experiment(digits_config())
    for i in range(2):
        seat = tmp_path / f"seat-{i}"
        for name in ("set", "validation"):
            shutil.copytree(digits.parent, seat / name)
        variables = init_variables(CRNN(experiment.model), 0)
        save_model(seat / "start.safetensors", variables, experiment.metadata(0))
    change(tmp_path / "seat-1")
    started = runs.start(
        tmp_path / "run",
        2,
        1,
        "--config.data.train=set/labels.tsv",
        "--config.data.validation=validation/labels.tsv",
        "--config.init_from=start.safetensors",
    )
    assert [run.wait(120) for run in started] == [2, 2]
    for i in range(2):
        log = (tmp_path / f"log-{i}").read_text()
        assert f"error: process 1 sees other {what} than process 0\n" in log
        assert "Traceback" not in log


INTERLEAVED = """
import sys
import jax
import numpy as np
from crnn_jax.training import hosts
from crnn_jax.training.parallel import DEVICE_KEYS, Parallel

process = int(sys.argv[2])
hosts.join(sys.argv[1], 2, process)
own = np.arange(4) + 4 * process
batch = {key: own for key in DEVICE_KEYS}
for order in ((0, 2, 1, 3), (2, 3, 0, 1)):
    for mode in ("jit", "pmap"):
        parallel = Parallel(mode, [jax.devices()[i] for i in order])
        evaluate = parallel.eval_step(lambda variables, batch: {"id": batch["label"] + variables})
        found = evaluate(parallel.replicate(np.int32(0)), parallel.shard(batch))
        found = parallel.own_rows(found)
        np.testing.assert_array_equal(found["id"], own)
"""


@pytest.mark.slow
def test_answers_are_those_of_ones_own_rows_in_whatever_order_devices_stand(root):
    address = f"127.0.0.1:{free_port()}"
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", INTERLEAVED, address, str(i)],
            cwd=root,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    said = [run.communicate(timeout=120)[1] for run in started]
    assert [run.returncode for run in started] == [0, 0], said


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
