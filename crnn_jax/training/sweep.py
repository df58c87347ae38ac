"""Sweeps: the points of a list, or trials that Optuna draws, each trained in a workdir of its own.

Both are a study of Optuna's. A sweep that was killed resumes with its unfinished trials.
"""

import contextlib
import csv
import fcntl
import hashlib
import json
import re
import runpy
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from matplotlib.figure import Figure
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import whole_file
from crnn_jax.scoring import output
from crnn_jax.scoring.metrics import wilson
from crnn_jax.training.checkpoints import FREE, by_key

TRAIN = (sys.executable, "-m", "crnn_jax.main")
BEGUN = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
# Columns of the table beside the changed keys.
OWN = {"point", "accuracy", "low", "high", "cer", "count", "steps", "hours"}

optuna.logging.set_verbosity(optuna.logging.WARNING)  # it reports each trial, and so do we

Changes = dict[str, Any]  # config key -> value
Suggest = Callable[[optuna.Trial], Changes]


def points_of(config_file: str) -> dict[str, Changes]:
    """The points that `sweep(add)` of a config file adds: name, fit for a folder -> changes."""
    points: dict[str, Changes] = {}

    def add(changes: Mapping[str, Any]) -> None:
        plain = _plain(changes, config_file)
        name = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in plain.items())
        name = re.sub(r"[^\w.,=+-]+", "_", name).strip("_.")[:120]
        if points.get(name, plain) != plain:  # what differs was cut off or replaced
            name += "-" + hashlib.sha256(repr(plain).encode()).hexdigest()[:8]
        if name in points:
            raise UserError(f"{config_file}: the point {name} is added twice")
        points[name] = plain

    _function(config_file, "sweep(add)")(add)
    if not points:
        raise UserError(f"{config_file}: sweep(add) added no point")
    return points


def suggest_of(config_file: str) -> tuple[Suggest, Changes]:
    """The function `suggest(trial)` of a config file, and the changes of a first trial."""
    function = _function(config_file, "suggest(trial)")

    def suggest(trial: optuna.Trial) -> Changes:
        return _plain(function(trial), config_file)

    return suggest, suggest(optuna.create_study(sampler=_sampler(0)).ask())


def _function(config_file: str, call: str) -> Callable[..., Any]:
    path = Path(config_file.partition(":")[0])
    found = runpy.run_path(str(path)).get(call.partition("(")[0])
    if found is None:
        raise UserError(f"{path}: no function {call}; see crnn_jax.sweep --help")
    return found


def _plain(changes: Any, config_file: str) -> Changes:
    """The changes, with JSON values."""
    if not isinstance(changes, Mapping) or not changes:
        raise UserError(
            f"{config_file}: {changes!r}: want changes as {{'optimizer.ema_decay': 0.99}}"
        )
    return {k: v if isinstance(v, str | int | float) else str(v) for k, v in changes.items()}


def flags_of(changes: Changes) -> list[str]:
    """The changes as arguments of crnn_jax.main."""
    return [f"--config.{key}={value}" for key, value in changes.items()]


def say(line: str) -> None:
    """Progress, for people."""
    print(line, file=sys.stderr, flush=True)


def open_study(storage: str, name: str, base: Any, *, prune: bool) -> optuna.Study:
    """Opens or makes a study; `storage` is a database's URL or a journal file's path.

    UserError if it was begun with another `base` config: its trials could not be compared.
    """
    try:
        journal = None if "://" in storage else JournalStorage(JournalFileBackend(storage))
        study = optuna.create_study(
            storage=journal or storage,
            study_name=name,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
    except (SQLAlchemyError, ImportError, OSError) as error:
        raise UserError(f"--storage={storage}: {str(error).splitlines()[0]}") from None
    config = {k: v for k, v in by_key(base.to_dict()).items() if not k.startswith(FREE)}
    first = study.user_attrs.get("config", config)
    for key in sorted(first.keys() & config.keys()):
        if first[key] != config[key]:
            raise UserError(
                f"{storage}: study {name} was begun with config.{key}={first[key]!r}, now it is "
                f"{config[key]!r}; take another --sweep-dir or --storage"
            )
    study.set_user_attr("config", config)
    return study


def add_points(study: optuna.Study, points: Mapping[str, Changes]) -> int:
    """Enqueues new points and those that failed; returns the number of trials in all."""
    trials = study.get_trials(deepcopy=False)
    known = {trial.user_attrs.get("point") for trial in trials if trial.state != TrialState.FAIL}
    for name, changes in points.items():
        if name not in known:
            study.enqueue_trial({}, {"point": name, "changes": changes})
    return len(study.get_trials(deepcopy=False))


def run(
    study: optuna.Study,
    folder: Path,
    arguments: list[str],
    suggest: Suggest | None,
    trials: int,
    jobs: int,
) -> int:
    """Trains until the study has `trials`, first those left unfinished in `folder`.

    Args:
      folder: of the workdirs.
      arguments: of crnn_jax.main, for all trials.
      suggest: None if the trials are enqueued points.
      trials: of the study, in all.
      jobs: trials at a time.

    Returns:
      The number of trials that failed.
    """

    def todo() -> Iterator[optuna.Trial]:
        for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if (folder / _name(left)).exists():  # else another machine's
                yield optuna.Trial(study, left._trial_id)
        while len(study.get_trials(deepcopy=False, states=BEGUN)) < trials:
            trial = study.ask()
            # By number: a search that was stopped draws the same trials.
            study.sampler = _sampler(trial.number)
            yield trial

    def begin(trial: optuna.Trial) -> _Run:
        if suggest:  # asked again, a trial suggests the same
            trial.set_user_attr("changes", suggest(trial))
        return _Run(trial, folder / _name(trial), arguments)

    following, running, failed = todo(), list[_Run](), 0
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the runs, too
    try:
        while True:
            while len(running) < jobs and (trial := next(following, None)):
                running.append(begin(trial))
            if not running:
                return failed
            time.sleep(0.2)
            for one in list(running):
                if one.process.poll() is not None:
                    running.remove(one)
                    failed += one.end()
                elif not one.stopped and one.lags():
                    one.process.terminate()  # it saves
                    one.stopped = True
    finally:
        for one in running:  # they save
            one.process.terminate()
        for one in running:
            one.process.wait()
        signal.signal(signal.SIGTERM, before)


class _Run:
    """A trial, trained by a process of its own."""

    def __init__(self, trial: optuna.Trial, workdir: Path, arguments: list[str]):
        self.trial, self.workdir, self.stopped = trial, workdir, False
        changes = flags_of(trial.user_attrs["changes"])
        how = "goes on" if workdir.exists() else "begun"
        say(f"{workdir.name}: {how}, {' '.join(changes)}")
        workdir.mkdir(exist_ok=True)
        # A resumed run writes some rows again.
        frozen = trial.study.get_trials(deepcopy=False)[trial.number]
        self._step, self._size = max(frozen.intermediate_values, default=0), 0
        # Some file systems of clusters have no locks.
        with (workdir / ".lock").open("a") as lock, contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)  # a killed sweep's run may still save
        words = [*TRAIN, *arguments, *changes, f"--workdir={workdir}"]
        with (workdir / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)

    def lags(self) -> bool:
        """Reports new validation rows; whether the trial is below the median there."""
        metrics, before = self.workdir / "metrics.jsonl", self._step
        size = metrics.stat().st_size if metrics.exists() else 0
        if size != self._size:
            self._size = size
            for line in metrics.read_text(encoding="utf-8").splitlines(keepends=True):
                row = json.loads(line) if line.endswith("\n") else {}  # else it is being written
                if "validation/accuracy" in row and row["step"] > self._step:
                    self._step = row["step"]
                    self.trial.report(row["validation/accuracy"], row["step"])
        return self._step > before and self.trial.should_prune()

    def end(self) -> bool:
        """Records the trial's end in the study; whether it failed."""
        self.lags()  # reports the last rows
        study, name = self.trial.study, self.workdir.name
        path, code = self.workdir / "summary.json", self.process.returncode
        if code == 0 and path.exists():
            summary = json.loads(path.read_text(encoding="utf-8"))
            best = summary["best_validation"]
            kept = {key: summary[key] for key in ("best_validation", "steps", "hours")}
            self.trial.set_user_attr("summary", kept)
            study.tell(self.trial, best.get("accuracy", 0.0))
            say(f"{name}: accuracy {best['accuracy']:.4f}" if best else f"{name}: finished")
            return False
        study.tell(self.trial, state=TrialState.PRUNED if self.stopped else TrialState.FAIL)
        lines = (self.workdir / "log.txt").read_text(encoding="utf-8", errors="replace").split("\n")
        last = next(filter(None, reversed(lines)), "")
        say(f"{name}: stopped" if self.stopped else f"{name}: exit code {code}: {last}")
        return not self.stopped


def _name(trial: optuna.Trial | optuna.trial.FrozenTrial) -> str:
    """The name of a trial's workdir."""
    return trial.user_attrs.get("point", f"trial-{trial.number:04}")


def _sampler(number: int) -> optuna.samplers.BaseSampler:
    # The liar counts running trials as bad, so that two at a time differ.
    return optuna.samplers.TPESampler(seed=number, constant_liar=True)


def counts(study: optuna.Study) -> str:
    """'20 trials: 12 complete, 8 pruned'."""
    states = Counter(trial.state.name.lower() for trial in study.get_trials(deepcopy=False))
    found = ", ".join(f"{count} {state}" for state, count in states.most_common())
    return f"{states.total()} trials: {found}"


def results(study: optuna.Study) -> list[dict[str, Any]]:
    """A row per trial that was trained to its end, on any machine; best first."""
    rows = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        summary = trial.user_attrs["summary"]
        row = {"point": _name(trial), **trial.user_attrs["changes"]}
        if best := summary["best_validation"]:
            low, high = wilson(round(best["accuracy"] * best["count"]), best["count"])
            row |= {"accuracy": best["accuracy"], "low": low, "high": high}
            row |= {"cer": best["cer"], "count": best["count"]}
        rows.append(row | {"steps": summary["steps"], "hours": summary["hours"]})
    return sorted(rows, key=lambda row: (-row.get("accuracy", 0.0), row.get("cer", 0.0)))


def write_results(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Writes results.csv, results.md and results.svg."""
    with whole_file(folder / "results.csv") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    with whole_file(folder / "results.md") as file:
        file.write("\n".join(markdown(rows)) + "\n")
    with whole_file(folder / "results.svg") as file:
        plot([row for row in rows if "accuracy" in row], file)


def markdown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table for people: changes, accuracy with its 95 % interval, CER, steps, hours."""
    keys = [k for k in dict.fromkeys(k for row in rows for k in row) if k not in OWN]
    table = [[*keys, "exact %", "CER %", "steps", "hours"]]
    for row in rows:
        values = (row.get(key, "") for key in keys)
        cells = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in values]
        if "accuracy" in row:
            right = round(row["accuracy"] * row["count"])
            cells += [output.percent_with_interval(right, row["count"]), output.percent(row["cer"])]
        else:
            cells += ["-", "-"]
        table.append([*cells, str(row["steps"]), f"{row['hours']:.2f}"])
    return list(output.markdown(table))


def plot(rows: Sequence[Mapping[str, Any]], file: Any) -> None:
    """Draws the accuracy of every point with its 95 % interval, best first, as SVG."""
    figure = Figure((10, 1 + 0.35 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        axes.plot(100 * row["accuracy"], place, "o", color="C0")
        axes.hlines(place, 100 * row["low"], 100 * row["high"], color="C0")
    axes.set(xlim=(0, 100), xlabel="exact, %")
    axes.set_yticks(range(len(rows)), [row["point"][:50] for row in rows])
    axes.invert_yaxis()
    axes.grid(axis="x")
    figure.savefig(file, format="svg")
