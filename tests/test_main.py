"""The train command as a user runs it: help, mistakes, a run that a signal stops."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from crnn_jax import main, settings

# ml_collections still loads config files the old way.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

TINY = "--config=configs/tiny.py"
MISTAKES = {
    "no config": ([], "which config"),
    "no file": (["--config=configs/none.py"], "configs/none.py: no such file"),
    "folder": (["--config=configs"], "--config=configs: no such file"),
    "no Python": (["--config=README.md"], "README.md:"),
    "unknown key": ([TINY, "--config.nokey=1"], "nokey"),
    "key of a section": ([TINY, "--config.model.nme=x"], 'Did you mean "name"'),
    "old name": ([TINY, "--config.optimizer.ema=0.9"], "--config.optimizer.ema_decay"),
    "wrong type": ([TINY, "--config.batch_size=1.5"], "batch_size=1.5"),
    "unknown flag": ([TINY, "--no_such"], "no_such"),
    "wrong choice": ([TINY, "--resume=no"], "auto|with_new_config"),
    "one of how many": ([TINY, "--process=1"], "give all three"),
}
# Key -> (value, what is named beside it or in its place).
VALUES = {
    "data.train": ("nothere.txt", "nothere.txt"),
    "charset.table": ("nothere.txt", "nothere.txt"),
    "init_from": ("nothere.safetensors", "nothere.safetensors"),
    "model.name": ("crnn_huge", "crnn_huge"),
    "model.geometry": ("flat", "flat"),
    "model.dtype": ("float16", "model.dtype"),
    "model.convolution": ("fast", "model.convolution"),
    "parallel": ("both", "parallel"),
    "freeze": ('("head",)', "freeze"),
    "epochs": ("1.0", "epochs"),  # beside steps
    "batch_size": ("0", "batch_size"),
    "log.profile": ("(5,5)", "log.profile"),
    "preprocessing.height": ("48", "preprocessing.height"),
    "optimizer.name": ("lion", "optimizer.name"),
    "optimizer.schedule": ("step", "optimizer.schedule"),
    "data.loader": ("grain", "data.loader"),
    "data.augment": ("much", "data.augment"),
}
MISTAKES |= {k: ([TINY, f"--config.{k}={v}"], named) for k, (v, named) in VALUES.items()}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_line_and_exit_code_2(run, mistake, root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    words, wanted = MISTAKES[mistake]
    code, out, err = run(main, f"--workdir={tmp_path}", *words)
    assert (code, out) == (2, [])
    assert err[-1].startswith("error: ")
    assert wanted in err[-1]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("import os; os.gentenv('HOME')", "mine.py:2: module 'os' has no attribute 'gentenv"),
        ("import configs.nothing", "No module named 'configs.nothing'"),
    ],
)
def test_a_fault_of_a_config_is_told_with_its_file(run, line, wanted, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(f"def get_config():\n    {line}\n")
    code, _, err = run(main, f"--config={tmp_path / 'mine.py'}")
    assert code == 2
    assert wanted in err[-1]


def test_a_config_outside_the_clone_uses_its_configs(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(root))])
    monkeypatch.delitem(sys.modules, "configs", raising=False)
    shutil.copy(root / "configs" / "tiny.py", tmp_path / "mine.py")
    assert settings.parse([f"--config={tmp_path / 'mine.py'}"]).config.model.name == "crnn_tiny"


@pytest.fixture
def endless_run(root, tmp_path):
    """A small run that has taken its first steps, and its log."""
    words = [sys.executable, "-m", "crnn_jax.main", TINY, f"--workdir={tmp_path}"]
    log = tmp_path / "log"
    with log.open("w") as stream:
        run = subprocess.Popen([*words, "--config.steps=100000"], cwd=root, stderr=stream)
        try:
            deadline = time.monotonic() + 120
            while "step 5/" not in log.read_text() and time.monotonic() < deadline:
                assert run.poll() is None, log.read_text()
                time.sleep(0.1)
            yield run, log
        finally:
            run.kill()


@pytest.mark.slow
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
