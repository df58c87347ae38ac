"""Runs the points of a sweep as processes of their own, so many at a time."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from crnn_jax.core.errors import UserError
from crnn_jax.training.sweep_points import Changes, flags_of

TRAIN = (sys.executable, "-m", "crnn_jax.main")
LOG = "log.txt"
METRICS = "metrics.jsonl"
MARK = "sweep.json"
LOCK = ".lock"  # a run holds the one in its workdir, a sweep the one in its folder

Summary = dict[str, Any]


def summary_of(workdir: Path) -> Summary | None:
    """What a finished run left; None where it has not finished."""
    try:
        return json.loads((workdir / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def validations_of(workdir: Path) -> Iterator[tuple[int, float]]:
    """(step, exact accuracy) of every evaluation that a run has written so far."""
    for line in (workdir / METRICS).read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):  # else it is being written
            row = json.loads(line)
            if "validation/accuracy" in row:
                yield row["step"], row["validation/accuracy"]


def hold(folder: Path) -> TextIO:
    """Makes the folder of a sweep and keeps other sweeps out until the file is closed.

    Raises:
        UserError: it cannot be made, or another sweep is at work in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a")
    except OSError as error:
        raise UserError(f"--sweep_dir={folder}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UserError(f"--sweep_dir={folder}: another sweep is at work in it") from None
    return lock


def run_points(
    points: Mapping[str, Changes],
    folder: Path,
    arguments: Iterable[str],
    *,
    jobs: int,
    say: Callable[[str], None],
) -> list[str]:
    """Trains every point that has not finished, each in its own workdir.

    Args:
        points: name -> changes to the config.
        folder: of the sweep; a workdir is a folder in it of the point's name.
        arguments: of crnn_jax.main, the same for all points.
        jobs: processes at a time.
        say: told when a point begins and ends.

    Returns:
        The names of the points that ended with an error; their last words are in `log.txt`.
    """
    waiting = [name for name in points if summary_of(folder / name) is None]
    if done := len(points) - len(waiting):
        say(f"{done} of {len(points)} points had finished already")

    def todo() -> Iterator[tuple[str, Changes]]:
        for i, name in enumerate(waiting, 1):
            say(f"{name}: begun, {len(waiting) - i} more to come")
            yield name, points[name]

    ended = runs(todo(), folder, arguments, jobs=jobs, say=say)
    return [name for name, summary in ended if summary is None]


def runs(
    points: Iterator[tuple[str, Changes]],
    folder: Path,
    arguments: Iterable[str],
    *,
    jobs: int,
    say: Callable[[str], None],
    enough: Callable[[str], bool] | None = None,
) -> Generator[tuple[str, Summary | None], None, None]:
    """Trains points as they come, each asked for when a process is free for it.

    Args:
        points: of (name, changes).
        folder: of the sweep.
        arguments: of crnn_jax.main, the same for all points.
        jobs: processes at a time.
        say: told how a point ended.
        enough: asked again and again of every point that runs; True stops it, and it saves.

    Yields:
        (name, summary) as they end; None where there is none, for an error or because it was
        enough. However this ends, the runs under way are stopped, and save.
    """
    arguments = list(arguments)
    running: dict[str, subprocess.Popen] = {}
    stopped: set[str] = set()
    more = True
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # or they would run on
    try:
        while more or running:
            while more and len(running) < jobs:
                point = next(points, None)
                more = point is not None
                if point is not None:
                    running[point[0]] = _start(folder / point[0], point[1], arguments)
            time.sleep(0.2)
            for name, process in list(running.items()):
                if process.poll() is None:
                    if enough and name not in stopped and enough(name):
                        process.terminate()
                        stopped.add(name)
                    continue
                del running[name]
                summary = summary_of(folder / name)
                if summary is not None and process.returncode == 0:
                    say(f"{name}: {_accuracy(summary)}")
                elif name in stopped:
                    say(f"{name}: stopped")
                else:
                    summary = None
                    say(f"{name}: exit code {process.returncode}: {_last_line(folder / name)}")
                yield name, summary
    finally:
        for process in running.values():  # they save and go on another time
            process.terminate()
        for process in running.values():
            process.wait()
        signal.signal(signal.SIGTERM, before)


def _start(workdir: Path, changes: Changes, arguments: Iterable[str]) -> subprocess.Popen:
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a run that a killed sweep left behind goes on to its end
    (workdir / MARK).write_text(json.dumps(changes, default=str) + "\n", encoding="utf-8")
    words = [*TRAIN, *arguments, *flags_of(changes)]
    with (workdir / LOG).open("ab") as log:
        return subprocess.Popen(
            [*words, f"--workdir={workdir}"], stdout=log, stderr=log, env=os.environ | _path()
        )


def _path() -> dict[str, str]:
    """So that the package is found from a source tree, from wherever the command runs."""
    root = str(Path(__file__).resolve().parents[2])
    return {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))}


def _last_line(workdir: Path) -> str:
    lines = (workdir / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1] if lines else "no word"


def _accuracy(summary: Mapping[str, Any]) -> str:
    best = summary.get("best_validation") or {}
    return f"accuracy {best['accuracy']:.4f}" if "accuracy" in best else "finished, no validation"
