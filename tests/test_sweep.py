"""A sweep trains each point once, goes on where it was stopped, and compares them."""

import csv
import json

import pytest

from crnn_jax import cli, sweep
from crnn_jax.core.errors import UserError
from crnn_jax.training import sweep_points, sweep_runs, sweep_table

# ml_collections loads config files in a way that Python is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

CONFIG = """
from configs import tiny


def get_config():
    config = tiny.get_config()
    with config.unlocked():
        config.steps = 2
        config.data.validation = "synthetic*0.05"
        config.evaluation.every_steps = 2
    return config


def sweep(add):
    {body}
"""


@pytest.fixture
def config_file(root, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(root)
    monkeypatch.chdir(root)

    def write(body):
        path = tmp_path / "settings" / "mine.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(CONFIG.format(body=body))
        return str(path)

    return write


def test_two_points_and_once_more(config_file, tmp_path, capsys):
    path = config_file("[add({'seed': s, 'optimizer.ema': 0.5}) for s in (1, 2)]")
    folder = tmp_path / "sweep"
    words = [f"--config={path}", f"--sweep_dir={folder}", "--jobs=2", "--config.log.every_steps=1"]
    assert sweep.main(words) == 0
    names = ["seed=1,ema=0.5", "seed=2,ema=0.5"]
    stamps = [(folder / name / "summary.json").stat().st_mtime_ns for name in names]
    for name in names:
        config = json.loads((folder / name / "config.json").read_text())
        assert f"seed={config['seed']},ema={config['optimizer']['ema']}" == name
        assert config["log"]["every_steps"] == 1
        best = json.loads((folder / name / "summary.json").read_text())["best_validation"]
        assert list(sweep_runs.validations_of(folder / name)) == [(2, best["accuracy"])]
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["seed"] for row in rows) == ["1", "2"]
    assert rows[0]["accuracy"] >= rows[1]["accuracy"]
    assert "| seed | optimizer.ema | exact % |" in (folder / "results.md").read_text()
    assert (folder / "results.svg").read_text().count("<circle") == 2
    said = capsys.readouterr().err
    assert "seed=1,ema=0.5: begun, 1 more to come" in said
    assert "seed=2,ema=0.5: begun, 0 more to come" in said
    assert sweep.main(words) == 0  # nothing is trained again
    assert "2 of 2 points had finished already" in capsys.readouterr().err
    assert stamps == [(folder / name / "summary.json").stat().st_mtime_ns for name in names]


def test_a_long_run_keeps_no_other_waiting(monkeypatch, tmp_path):
    started, polls = [], []

    class Fake:
        """The first runs until the third has begun; the others end at once."""

        returncode = 0

        def __init__(self, name):
            self.name = name

        def poll(self):
            polls.append(self.name)
            assert len(polls) < 50
            return None if self.name == "first" and "third" not in started else 0

        def wait(self):
            pass

        terminate = wait

    def start(workdir, *_):
        started.append(workdir.name)
        workdir.mkdir()
        (workdir / "summary.json").write_text("{}")
        return Fake(workdir.name)

    monkeypatch.setattr(sweep_runs, "_start", start)
    monkeypatch.setattr(sweep_runs.time, "sleep", lambda _: None)
    points = iter([(name, {}) for name in ("first", "second", "third")])
    ended = [name for name, _ in sweep_runs.runs(points, tmp_path, (), jobs=2, say=print)]
    assert ended[0] == "second"
    assert sorted(ended) == ["first", "second", "third"]


def test_a_point_that_fails_is_named_and_the_others_count(config_file, tmp_path, capsys):
    path = config_file("[add({'data.train': d}) for d in ('missing.txt', 'synthetic')]")
    assert sweep.main([f"--config={path}", f"--sweep_dir={tmp_path / 'sweep'}"]) == 1
    captured = capsys.readouterr()
    assert "train=missing.txt: exit code 2: error: missing.txt" in captured.err
    assert captured.out.count("\n") == 3  # headings, a rule, and one point


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("pass", "added no point"),
        ("add({'seed': 1}); add({'seed': 1})", "seed=1 is added twice"),
        ("add(3)", r"add\(3\)"),
        ("add({'optimizer.emma': 1})", "unknown config key .*emma"),
        ("add({'seed': 'x'})", "seed"),
    ],
)
def test_mistakes_come_before_the_first_run(config_file, tmp_path, body, what):
    with pytest.raises(UserError, match=what):
        sweep.main([f"--config={config_file(body)}", f"--sweep_dir={tmp_path / 'sweep'}"])
    assert not (tmp_path / "sweep").exists()


def test_a_config_without_a_sweep(root, monkeypatch):
    monkeypatch.chdir(root)
    with pytest.raises(UserError, match=r"no function sweep\(add\)"):
        sweep.main(["--config=configs/tiny.py"])
    with pytest.raises(UserError, match="no such file"):
        sweep.main(["--config=configs/none.py"])
    with pytest.raises(SystemExit) as stopped:
        sweep.main(["--config=configs/tiny.py", "--steps=3"])
    assert stopped.value.code == cli.EXIT_MISTAKE


def test_dry_run_lists_the_points(config_file, capsys):
    path = config_file("[add({'seed': s}) for s in range(3)]")
    assert sweep.main([f"--config={path}", "--dry_run"]) == 0
    assert capsys.readouterr().out.split() == ["seed=0", "seed=1", "seed=2"]


def test_the_example_sweep_can_begin(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    assert sweep.main(["--config=experiments/sweep/captchas.py", "--dry_run"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8


def test_names_are_fit_for_folders():
    assert sweep_points.name_of({"data.train": "../a b.txt", "x.y": (1, 2)}) == (
        "train=.._a_b.txt,y=_1,_2"
    )
    with pytest.raises(UserError, match="name this long"):
        sweep_points.name_of({f"key{i}": 123456789 for i in range(20)})


def test_the_best_comes_first_and_equal_ones_by_cer():
    ended = [("d", {"seed": 4}, None)]  # has not finished
    for seed, name, accuracy, cer in ((1, "a", 0.5, 0.3), (2, "b", 0.5, 0.2), (3, "c", 0.9, 0.4)):
        best = {"accuracy": accuracy, "cer": cer, "count": 10}
        summary = {"best_validation": best, "steps": 7, "hours": 0.5}
        ended.append((name, {"seed": seed, "rate": 0.00123456}, summary))
    lines = sweep_table.collect(ended)
    assert [line["point"] for line in lines] == ["c", "b", "a"]
    assert (
        sweep_table.markdown(lines)[2] == "| 3 | 0.001235 | 90.00 (59.6-98.2) | 40.00 | 7 | 0.50 |"
    )


def test_one_sweep_at_a_time_in_a_folder(config_file, tmp_path):
    path = config_file("add({'seed': 1})")
    folder = tmp_path / "new" / "sweep"
    with sweep_runs.hold(folder), pytest.raises(UserError, match="another sweep is at work"):
        sweep.main([f"--config={path}", f"--sweep_dir={folder}"])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: File exists"):
        sweep.main([f"--config={path}", f"--sweep_dir={tmp_path / 'file'}"])
