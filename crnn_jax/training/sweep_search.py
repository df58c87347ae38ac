"""A search by Optuna: TPE draws trials, the median pruner stops those that lag behind.

The study lies in a database or a journal file, so that several machines share it. A search that was
killed goes on: what it left unfinished in its folder is trained to the end first.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from crnn_jax.core.errors import UserError
from crnn_jax.training.sweep_points import Changes
from crnn_jax.training.sweep_runs import METRICS, Summary, runs, validations_of

Suggest = Callable[[optuna.Trial], Changes]
ARGUMENTS, CHANGES, SUMMARY = "arguments", "changes", "summary"  # what a study keeps beside values
ENDINGS = {
    "COMPLETE": "finished",
    "PRUNED": "stopped early",
    "FAIL": "failed",
    "RUNNING": "running",
}


def example(suggest: Suggest) -> Changes:
    """What a first trial would change: mistakes are to be found before anything is written."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it tells of each trial, and so do we
    return suggest(optuna.create_study(sampler=_sampler(0)).ask())


def open_study(storage: str, name: str, folder: Path, arguments: list[str]) -> optuna.Study:
    """Opens a study, or makes it.

    Args:
        storage: URL of a database, or path of a journal file; '' for `study.db` in the folder.
        name: of the study, the same on every machine that shares it.
        folder: of the sweep.
        arguments: settings of all trials; trials of others could not be compared with these.

    Raises:
        UserError: the storage cannot be opened, or the study was begun with other settings.
    """
    storage = storage or f"sqlite:///{folder / 'study.db'}"
    try:
        place: str | BaseStorage = storage
        if "://" not in storage:
            place = JournalStorage(JournalFileBackend(storage))
        study = optuna.create_study(
            storage=place,
            study_name=name,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(),
            load_if_exists=True,
        )
    except (SQLAlchemyError, ImportError, OSError) as error:
        raise UserError(f"--storage={storage}: {str(error).splitlines()[0]}") from None
    begun = study.user_attrs.get(ARGUMENTS, arguments)
    if begun != arguments:
        was, now = (" ".join(words) or "no changes" for words in (begun, arguments))
        raise UserError(
            f"{storage}: study {name} was begun with {was}, now it is {now}; "
            "take another --sweep_dir or --storage"
        )
    study.set_user_attr(ARGUMENTS, arguments)
    return study


def search(
    study: optuna.Study,
    suggest: Suggest,
    folder: Path,
    arguments: list[str],
    *,
    trials: int,
    jobs: int,
    say: Callable[[str], None],
) -> list[str]:
    """Trains trials until the study has so many, first those that were left unfinished here.

    Args:
        study: see `open_study`.
        suggest: trial -> changes to the config.
        folder: of the sweep, held by this process; a workdir is a folder in it.
        arguments: of crnn_jax.main, the same for all trials.
        trials: of the study, whichever machine ran them.
        jobs: processes at a time.
        say: told when a trial begins and ends.

    Returns:
        The names of the trials that ended with an error here.
    """
    under_way: dict[str, _Trial] = {}

    def begin(trial: optuna.Trial, how: str) -> tuple[str, Changes]:
        name = _name(trial.number)
        (folder / name).mkdir(exist_ok=True)  # from here on it is found again
        changes = suggest(trial)  # asked once more, a trial suggests the same
        trial.set_user_attr(CHANGES, json.loads(json.dumps(changes, default=str)))
        under_way[name] = _Trial(trial, folder / name)
        told = ", ".join(f"{key}={value}" for key, value in changes.items())
        say(f"{name} of {trials}: {how} with {told}")
        return name, changes

    def todo() -> Iterator[tuple[str, Changes]]:
        for left in study.get_trials(states=(TrialState.RUNNING,)):
            if (folder / _name(left.number)).exists():  # of others there is no folder here
                yield begin(optuna.Trial(study, left._trial_id), "goes on")
        while len(study.get_trials(deepcopy=False)) < trials:
            trial = study.ask()
            # By its number, so that a search draws the same however often it was stopped.
            study.sampler = _sampler(trial.number)
            yield begin(trial, "begun")

    failed = []
    ended = runs(
        todo(), folder, arguments, jobs=jobs, say=say, enough=lambda name: under_way[name].lags()
    )
    with contextlib.closing(ended):
        for name, summary in ended:
            state = under_way.pop(name).tell(summary)
            if state is TrialState.FAIL:
                failed.append(name)
    return failed


def finished(study: optuna.Study) -> Iterator[tuple[str, Changes, Summary]]:
    """(name, changes, summary) of every trial that was trained to its end, on any machine."""
    for trial in study.get_trials(states=(TrialState.COMPLETE,)):
        yield _name(trial.number), trial.user_attrs[CHANGES], trial.user_attrs[SUMMARY]


def counts(study: optuna.Study) -> str:
    """'20 trials: 12 finished, 8 stopped early'."""
    states = Counter(trial.state.name for trial in study.get_trials(deepcopy=False))
    told = ", ".join(f"{states[name]} {word}" for name, word in ENDINGS.items() if states[name])
    return f"{states.total()} trials: {told}"


class _Trial:
    """A trial that is being trained, and what it has reported."""

    def __init__(self, trial: optuna.Trial, workdir: Path):
        self._trial, self._workdir = trial, workdir
        # A run that goes on writes some rows again.
        reported = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        self._step = max(reported, default=0)
        self._size = 0  # of the file when it was last read
        self._lags = False

    def lags(self) -> bool:
        """Reports new rows of validation; whether the trial is worse than most were there."""
        if self._report():
            self._lags = self._trial.should_prune()
        return self._lags

    def _report(self) -> bool:
        metrics, before = self._workdir / METRICS, self._step
        size = metrics.stat().st_size if metrics.exists() else 0
        if size != self._size:
            self._size = size
            for step, accuracy in validations_of(self._workdir):
                if step > self._step:
                    self._step = step
                    self._trial.report(accuracy, step)
        return self._step > before

    def tell(self, summary: Summary | None) -> TrialState:
        """Ends the trial in the study."""
        self._report()  # others are compared with the last rows too
        best: dict[str, Any] = (summary or {}).get("best_validation") or {}
        if summary is None or "accuracy" not in best:
            state = TrialState.PRUNED if self._lags else TrialState.FAIL
            self._trial.study.tell(self._trial, state=state)
            return state
        kept = {"best_validation": best, "steps": summary["steps"], "hours": summary["hours"]}
        self._trial.set_user_attr(SUMMARY, kept)
        self._trial.study.tell(self._trial, best["accuracy"])
        return TrialState.COMPLETE


def _name(number: int) -> str:
    return f"trial-{number:04}"


def _sampler(number: int) -> optuna.samplers.BaseSampler:
    # The liar counts trials under way as bad, so that two at a time do not draw the same.
    return optuna.samplers.TPESampler(seed=number, constant_liar=True)
