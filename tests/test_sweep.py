"""A sweep trains points or drawn trials, stops what lags, and goes on as if never stopped.

Short programs stand for the training runs: what they learn depends on their seed.
"""

import csv
import json
import sys

import pytest

from crnn_jax import cli, sweep
from crnn_jax.core.errors import UserError
from crnn_jax.core.files import locked_folder

optuna = pytest.importorskip("optuna", reason="sweeps are an extra")
from crnn_jax.training import sweep as training_sweep  # noqa: E402

# ml_collections loads config files in a way that Python is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

CONFIG = """
from configs import tiny


def get_config():
    config = tiny.get_config()
    config.data.validation = "synthetic*0.05"
    return config


def sweep(add):
    {points}


def suggest(trial):
    {suggest}
"""
POINTS = "[add({'optimizer.ema_decay': 0.5, 'seed': s}) for s in (1, 3, 2)]"
SUGGEST = (
    "return {'optimizer.ema_decay': trial.suggest_float('ema', 0.0, 0.9), 'seed': trial.number}"
)
RUN = """
import json, os, pathlib, signal, sys, time

workdir = pathlib.Path(sys.argv[-1].removeprefix("--workdir="))
number = int(sys.argv[-2].removeprefix("--config.seed="))
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
def command(root, tmp_path, monkeypatch):
    """Calls the command; `learning` is what a run does halfway, '' for a real run."""
    monkeypatch.syspath_prepend(root)
    monkeypatch.chdir(root)
    path = tmp_path / "settings" / "mine.py"
    path.parent.mkdir()

    def run(*words, points=POINTS, suggest=SUGGEST, learning="pass", folder="sweep"):
        path.write_text(CONFIG.format(points=points, suggest=suggest))
        if learning:
            program = tmp_path / "run.py"
            program.write_text(RUN.replace("BODY", learning))
            words_of_run = (sys.executable, "-IS", str(program))
            monkeypatch.setattr(training_sweep, "TRAIN", words_of_run)
        return sweep.main([f"--config={path}", f"--sweep_dir={tmp_path / folder}", *words])

    return run


def starts(folder):
    """Workdir -> the command lines it was started by."""
    files = sorted(folder.glob("*/starts"))
    return {path.parent.name: path.read_text().splitlines() for path in files}


def table(folder):
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_points_are_trained_once_and_compared(command, tmp_path, capsys):
    fails = "if number == 3 and not (workdir / 'again').exists():\n    sys.exit('no such thing')"
    assert command("--jobs=2", "--config.log.every_steps=9", learning=fails) == 1
    assert "ema_decay=0.5,seed=3: exit code 1: no such thing" in capsys.readouterr().err
    folder = tmp_path / "sweep"
    assert [row["point"] for row in table(folder)] == [
        "ema_decay=0.5,seed=2",
        "ema_decay=0.5,seed=1",
    ]
    words = ["--config.log.every_steps=9", "--config.optimizer.ema_decay=0.5", "--config.seed=1"]
    assert starts(folder)["ema_decay=0.5,seed=1"][0].split()[1:] == words
    (folder / "ema_decay=0.5,seed=3" / "again").touch()
    more = POINTS.replace("(1, 3, 2)", "(1, 3, 2, 4)")
    assert command("--config.log.every_steps=9", learning=fails, points=more) == 0
    # The failed one once more, the new one, and no other.
    assert [len(lines) for lines in starts(folder).values()] == [1, 1, 2, 1]
    assert [row["seed"] for row in table(folder)] == ["4", "3", "2", "1"]
    said = capsys.readouterr()
    assert said.out.splitlines()[2] == "| 0.5 | 4 | 40.00 (16.8-68.7) | 50.00 | 2 | 0.10 |"
    assert said.out == (folder / "results.md").read_text()
    assert (folder / "results.svg").read_text().count('<g id="LineCollection_') == 4


@pytest.mark.slow
def test_a_real_run(command, tmp_path):
    settings = {"steps": 2, "evaluation.every_steps": 2, "preprocessing.width": 64}
    words = [f"--config.{key}={value}" for key, value in settings.items()]
    assert command(*words, points="add({'seed': 1})", learning="") == 0
    config = json.loads((tmp_path / "sweep" / "seed=1" / "config.json").read_text())
    assert (config["seed"], config["steps"]) == (1, 2)
    assert len(table(tmp_path / "sweep")) == 1


def test_what_lags_is_stopped_and_what_fails_is_named(command, tmp_path, capsys, monkeypatch):
    learning = """
if number == 5:  # the first behind which there are enough to compare with
    wait()
if number == 6:
    (workdir / "metrics.jsonl").unlink()  # as if it had not come to its first row
    sys.exit("no such thing")
"""
    assert command("--trials=7", learning=learning) == 1
    said = capsys.readouterr()
    assert "trial-0005: stopped" in said.err
    assert "trial-0006: exit code 1: no such thing" in said.err
    assert "7 trials: 5 complete, 1 pruned, 1 fail" in said.err
    rows, begun = table(tmp_path / "sweep"), starts(tmp_path / "sweep")
    assert [row["point"] for row in rows] == [f"trial-000{i}" for i in (4, 3, 2, 1, 0)]
    assert len({row["optimizer.ema_decay"] for row in rows}) == 5
    assert command("--trials=7") == 0  # there is nothing more to do
    assert starts(tmp_path / "sweep") == begun
    assert command("--trials=7", "--config.log.every_steps=7") == 0  # changes no number
    with pytest.raises(UserError, match=r"begun with config.steps=20, now it is 7"):
        command("--trials=7", "--config.steps=7")
    monkeypatch.setitem(globals(), "CONFIG", CONFIG.replace("0.05", "0.06"))
    with pytest.raises(UserError, match=r"begun with config.data.validation='synthetic\*0.05'"):
        command("--trials=7")


@pytest.mark.parametrize("trials", [["--trials=3"], []], ids=["search", "points"])
def test_a_killed_sweep_goes_on_with_what_it_was_at(command, tmp_path, capsys, trials):
    learning = """
if number == 1 and not (workdir / "again").exists():
    (workdir / "again").touch()
    os.kill(os.getppid(), signal.SIGTERM)
    wait()
"""
    points = POINTS.replace("(1, 3, 2)", "(0, 1, 2)")
    with pytest.raises(KeyboardInterrupt):
        command(*trials, learning=learning, points=points)
    assert len(starts(tmp_path / "sweep")) == 2
    assert command(*trials, learning=learning, points=points) == 0
    assert ": goes on, " in capsys.readouterr().err
    killed = list(starts(tmp_path / "sweep").values())
    assert [len(lines) for lines in killed] == [1, 2, 1]
    assert killed[1][0] == killed[1][1]
    assert command(*trials, folder="quiet", points=points) == 0
    assert [lines[0] for lines in starts(tmp_path / "quiet").values()] == [ls[0] for ls in killed]


def test_points_may_differ_in_what_their_names_leave_out(tmp_path):
    changes = [{"batch_size": 4}, {"evaluation.batch_size": 4}]
    changes += [{"data.train": "x" * 150 + end} for end in "ab"]
    path = tmp_path / "mine.py"
    path.write_text(f"def sweep(add):\n    [add(changes) for changes in {changes}]")
    points = training_sweep.points_of(str(path))
    assert list(points.values()) == changes
    assert max(map(len, points)) < 200  # a folder's name


MISTAKES = {
    "no point": ([], {"points": "pass"}, "added no point"),
    "twice": ([], {"points": "add({'seed': 1}); add({'seed': 1})"}, "seed=1 is added twice"),
    "unknown key": ([], {"points": "add({'optimizer.emma': 1})"}, "unknown config key .*emma"),
    "drawn key": (["--trials=2"], {"suggest": "return {'emma': 1}"}, "unknown config key .*emma"),
    "no validation": (["--trials=2", "--config.data.validation="], {}, "needs validation data"),
    "no split": (
        ["--trials=2", "--config.data.validation=", "--config.data.split="],
        {},
        "needs validation data",
    ),
    "no database": (["--trials=2", "--storage=nothing:///x"], {}, "--storage=nothing:///x: "),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_come_before_the_first_run(command, tmp_path, mistake):
    words, functions, message = MISTAKES[mistake]
    with pytest.raises(UserError, match=message):
        command(*words, **functions)
    assert starts(tmp_path / "sweep") == {}


def test_folders_and_files_that_do_not_do(command, tmp_path):
    locked = locked_folder(tmp_path / "sweep", "--sweep_dir")
    with locked, pytest.raises(UserError, match="is at work"):
        command()
    for words, message in (
        (["--config=configs/tiny.py"], r"no function sweep\(add\)"),
        (["--config=configs/tiny.py", "--trials=2"], r"no function suggest\(trial\)"),
        (["--config=configs/none.py"], "no such file"),
    ):
        with pytest.raises(UserError, match=message):
            sweep.main(words)
    for flag in (["--storage=x"], ["--trials=-1"], ["--trials=2", "--dry_run"], ["--steps=3"]):
        with pytest.raises(SystemExit) as stopped:
            sweep.main(["--config=configs/tiny.py", *flag])
        assert stopped.value.code == cli.EXIT_MISTAKE
