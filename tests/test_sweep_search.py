"""A search draws trials, stops those that lag, and goes on as if it had never been stopped.

Short programs stand for the training runs: what they learn is told by the number of their trial.
"""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from crnn_jax import cli, sweep
from crnn_jax.core.errors import UserError
from crnn_jax.training import sweep_runs

optuna = pytest.importorskip("optuna", reason="the search is an extra")
# ml_collections loads config files in a way that Python is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

CONFIG = """
from configs import tiny


def get_config():
    config = tiny.get_config()
    config.data.validation = "synthetic*0.05"
    return config


def suggest(trial):
    {body}
"""
BODY = "return {'optimizer.ema': trial.suggest_float('ema', 0.0, 0.9), 'seed': trial.number}"
RUN = """
import json, os, pathlib, signal, sys, time

workdir = pathlib.Path(sys.argv[-1].removeprefix("--workdir="))
number = int(workdir.name.removeprefix("trial-"))
with (workdir / "starts").open("a") as file:
    print(*sys.argv[1:-1], file=file)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def wait():
    time.sleep(30)  # SIGTERM ends it
    sys.exit(5)


def learn(step, accuracy):
    with (workdir / "metrics.jsonl").open("a") as file:
        print(json.dumps({"step": step, "validation/accuracy": accuracy}), file=file)


accuracy = number % 5 / 10
learn(1, accuracy / 2)
BODY
learn(2, accuracy)
best = {"accuracy": accuracy, "cer": 0.5, "count": 10}
summary = {"best_validation": best, "steps": 2, "hours": 0.1}
(workdir / "summary.json").write_text(json.dumps(summary))
"""


@pytest.fixture
def search(root, tmp_path, monkeypatch):
    """Calls the command with that body of `suggest`; `learning` is what a run does halfway."""
    monkeypatch.syspath_prepend(root)
    monkeypatch.chdir(root)
    path = tmp_path / "settings" / "mine.py"
    path.parent.mkdir()

    def run(*words, body=BODY, learning="pass", folder="sweep"):
        path.write_text(CONFIG.format(body=body))
        program = tmp_path / "run.py"
        program.write_text(RUN.replace("BODY", learning))
        monkeypatch.setattr(sweep_runs, "TRAIN", (sys.executable, str(program)))
        return sweep.main([f"--config={path}", f"--sweep_dir={tmp_path / folder}", *words])

    return run


def starts(folder):
    """Trial -> the command lines it was started by."""
    files = sorted(folder.glob("trial-*/starts"))
    return {int(path.parent.name[-4:]): path.read_text().splitlines() for path in files}


def table(folder):
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_what_lags_is_stopped_and_what_fails_is_named(search, tmp_path, capsys):
    learning = """
if number == 5:  # the first behind which there are enough to compare with
    wait()
if number == 6:
    (workdir / "metrics.jsonl").unlink()  # as if it had not come to its first row
    print("on the way", file=sys.stderr)
    sys.exit("no such thing")
"""
    assert search("--trials=7", "--config.log.every_steps=9", learning=learning) == 1
    said = capsys.readouterr()
    assert "trial-0005: stopped" in said.err
    assert "trial-0006: exit code 1: no such thing" in said.err
    assert "7 trials: 5 finished, 1 stopped early, 1 failed" in said.err
    rows = table(tmp_path / "sweep")
    assert [row["point"] for row in rows] == [f"trial-000{i}" for i in (4, 3, 2, 1, 0)]
    begun = starts(tmp_path / "sweep")
    assert len({row["optimizer.ema"] for row in rows}) == 5
    for row in rows:
        number = int(row["seed"])
        words = begun[number][0].split()
        assert words[1:] == [
            "--config.log.every_steps=9",
            f"--config.optimizer.ema={row['optimizer.ema']}",
            f"--config.seed={number}",
        ]
    assert said.out.count("\n") == 2 + 5
    assert search("--trials=7", "--config.log.every_steps=9") == 0  # there is nothing more to do
    assert starts(tmp_path / "sweep") == begun
    assert table(tmp_path / "sweep") == rows


def test_a_killed_search_goes_on_with_what_it_was_at(search, tmp_path, capsys):
    learning = """
if number == 1 and not (workdir / "again").exists():
    (workdir / "again").touch()
    os.kill(os.getppid(), signal.SIGTERM)
    wait()
"""
    with pytest.raises(KeyboardInterrupt):
        search("--trials=3", learning=learning)
    assert list(starts(tmp_path / "sweep")) == [0, 1]
    assert search("--trials=3", learning=learning) == 0
    assert "trial-0001 of 3: goes on" in capsys.readouterr().err
    killed = starts(tmp_path / "sweep")
    assert [len(lines) for lines in killed.values()] == [1, 2, 1]
    assert killed[1][0] == killed[1][1]
    assert search("--trials=3", folder="quiet") == 0
    quiet = starts(tmp_path / "quiet")
    assert {n: lines[0] for n, lines in killed.items()} == {n: ls[0] for n, ls in quiet.items()}


@pytest.mark.parametrize("storage", ["sqlite:///{}/all.db", "{}/all.journal"])
def test_machines_share_a_study(search, tmp_path, capsys, storage):
    storage = f"--storage={storage.format(tmp_path)}"
    assert search("--trials=2", storage, folder="here") == 0
    here = starts(tmp_path / "here")
    # A trial that is under way on some other machine.
    from crnn_jax.training import sweep_search

    sweep_search.open_study(storage.removeprefix("--storage="), "mine", tmp_path, []).ask()
    assert search("--trials=5", "--jobs=2", storage, folder="there") == 0
    assert list(starts(tmp_path / "there")) == [3, 4]
    assert starts(tmp_path / "here") == here
    assert len(table(tmp_path / "there")) == 4
    assert "5 trials: 4 finished, 1 running" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="tells who waits, on Linux")
def test_a_run_that_a_killed_search_left_behind_is_waited_for(search, tmp_path):
    workdir = tmp_path / "sweep" / "trial-0000"
    workdir.mkdir(parents=True)
    orphan = """
import fcntl, pathlib, sys, time
place = pathlib.Path(sys.argv[1])
with (place / ".lock").open("a") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("held", flush=True)
    ours = f":{(place / '.lock').stat().st_ino} "
    while not any("->" in line and ours in line for line in open("/proc/locks")):
        if (place / "starts").exists():
            sys.exit("not waited for")
        time.sleep(0.01)
"""
    words = [sys.executable, "-c", orphan, str(workdir)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as left:
        assert left.stdout.readline() == "held\n"
        assert search("--trials=1") == 0
    assert left.returncode == 0


@pytest.mark.parametrize(
    ("body", "flags", "what"),
    [
        ("return 3", [], r"suggest\(trial\) returned 3"),
        ("return {}", [], "returned {}"),
        ("return {'optimizer.emma': trial.number}", [], "unknown config key .*emma"),
        (BODY, ["--config.data.validation="], "what to compare by"),
        (BODY, ["--storage=nothing:///x"], "--storage=nothing:///x: "),
        (BODY, ["--storage=/no/such/folder/all.journal"], "all.journal: .*No such file"),
    ],
)
def test_mistakes_come_before_the_first_run(search, tmp_path, body, flags, what):
    with pytest.raises(UserError, match=what):
        search("--trials=2", *flags, body=body)
    assert starts(tmp_path / "sweep") == {}


def test_a_study_keeps_its_settings(search):
    assert search("--trials=1", "--config.steps=7") == 0
    with pytest.raises(UserError, match=r"begun with --config.steps=7, now it is no changes"):
        search("--trials=2")


def test_flags_that_do_not_go_together(search, root, capsys):
    for words in (["--storage=x"], ["--trials=-1"], ["--trials=2", "--dry_run"]):
        with pytest.raises(SystemExit) as stopped:
            search(*words)
        assert stopped.value.code == cli.EXIT_MISTAKE
    with pytest.raises(UserError, match=r"no function suggest\(trial\)"):
        sweep.main(["--config=configs/tiny.py", "--trials=2"])


def test_without_optuna(search, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "crnn_jax.training.sweep_search", raising=False)
    import crnn_jax.training

    monkeypatch.delattr(crnn_jax.training, "sweep_search", raising=False)
    with pytest.raises(UserError, match=r"pip install 'crnn_jax\[sweep\]'"):
        search("--trials=2")
