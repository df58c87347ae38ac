"""The train command as a user runs it: help, mistakes, a run that SIGTERM stops."""

import json
import signal
import subprocess
import sys
import time

import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.training.parallel import StopRequest


def _command(*arguments, root, **options):
    return subprocess.run(
        [sys.executable, "-m", "crnn_jax.main", *arguments],
        cwd=root,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


MISTAKES = {
    "no config": ([], "which config"),
    "config file is missing": (["--config=configs/none.py"], "configs/none.py: no such file"),
    "the same in two words": (["--config", "configs/none.py"], "configs/none.py: no such file"),
    "config is a folder": (["--config=configs"], "--config=configs: no such file"),
    "config without a config": (["--config=crnn_jax/core/errors.py"], "it has no get_config()"),
    "config is no Python": (["--config=README.md"], "README.md:"),
    "unknown key": (["--config=configs/tiny.py", "--config.nokey=1"], "nokey"),
    "unknown key of a section": (
        ["--config=configs/tiny.py", "--config.model.nme=x"],
        'Did you mean "name"',
    ),
    "wrong type": (["--config=configs/tiny.py", "--config.batch_size=1.5"], "batch_size=1.5"),
    "unknown flag": (["--config=configs/tiny.py", "--no_such"], "no_such"),
    "stray word": (["--config=configs/tiny.py", "stray"], "stray"),
    "wrong choice": (["--config=configs/tiny.py", "--resume=no"], "auto|with_new_config"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_gets_one_line_and_exit_code_2(mistake, root):
    arguments, wanted = MISTAKES[mistake]
    done = _command(*arguments, root=root)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert wanted in done.stderr
    assert done.stdout == ""


IN_CONFIG = {
    "data.train": ("nothere.txt", "nothere.txt"),
    "charset.table": ("nothere.txt", "nothere.txt"),
    "model.name": ("crnn_huge", "crnn_huge"),
    "model.geometry": ("flat", "flat"),
    "parallel": ("both", "both"),
    "freeze": ('("head",)', "head"),
    "epochs": ("1.0", "set one"),
    "preprocessing.height": ("48", "48"),
    "optimizer.name": ("lion", "lion"),
    "optimizer.schedule": ("step", "step"),
    "data.loader": ("grain", "grain"),
    "data.augment": ("much", "much"),
    "init_from": ("nothere.safetensors", "nothere.safetensors"),
}


# ml_collections still loads config files the old way.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize("key", IN_CONFIG)
def test_value_that_cannot_be_used_is_named(key, root, tmp_path, monkeypatch):
    # In this process: each start of JAX is two seconds.
    from crnn_jax import main

    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", ["crnn_jax.main"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    value, wanted = IN_CONFIG[key]
    with pytest.raises(UserError, match=wanted):
        main.main(["--config=configs/tiny.py", f"--workdir={tmp_path}", f"--config.{key}={value}"])


def test_help_needs_nothing_heavy(root):
    done = _command("--help", root=root)
    assert done.returncode == 0
    assert "--config" in done.stdout
    assert "--workdir" in done.stdout
    loaded = 'import sys, crnn_jax.main; print({"jax", "numpy", "tensorflow"} & set(sys.modules))'
    done = subprocess.run(
        [sys.executable, "-c", loaded], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


@pytest.fixture
def endless_run(root, tmp_path):
    """A small run that has taken its first steps, and its log."""
    arguments = ["--config=configs/tiny.py", f"--workdir={tmp_path}", "--config.steps=100000"]
    log = tmp_path / "log"
    with log.open("w") as stream:
        run = subprocess.Popen(
            [sys.executable, "-m", "crnn_jax.main", *arguments], cwd=root, stderr=stream
        )
        try:
            deadline = time.monotonic() + 120
            while "step 5/" not in log.read_text() and time.monotonic() < deadline:
                assert run.poll() is None, log.read_text()
                time.sleep(0.1)
            yield run, log
        finally:
            run.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_how_far(endless_run, tmp_path, number):
    run, log = endless_run
    run.send_signal(number)
    assert run.wait(60) == 0
    last = log.read_text().splitlines()[-1]
    step = int(last.split()[3])
    assert last == f"stopped at step {step} of 100000, run again to go on"
    assert (tmp_path / "checkpoints" / "latest" / str(step)).is_dir()
    rows = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["step"] <= step


def test_after_a_run_signals_do_what_they_did():
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    with StopRequest():
        assert signal.getsignal(signal.SIGINT) is not before[1]
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_second_ctrl_c_leaves_at_once():
    """Nothing is waited for, not even the step that runs."""
    code = (
        "import os, signal, time\n"
        "from crnn_jax.training.parallel import StopRequest\n"
        "with StopRequest() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    assert stop.asked\n"
        "    print('asked', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "asked\n"
    assert done.returncode == 130
