"""Runs the points of a sweep as processes of their own, so many at a time."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from crnn_jax.training.sweep_points import Changes, flags_of

LOG = "log.txt"
MARK = "sweep.json"


def summary_of(workdir: Path) -> dict[str, Any] | None:
    """What a finished run left; None where it has not finished."""
    try:
        return json.loads((workdir / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


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
    running: dict[str, subprocess.Popen] = {}
    failed: list[str] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = waiting.pop(0)
                running[name] = _start(folder / name, points[name], arguments)
                say(f"{name}: begun, {len(waiting)} more to come")
            time.sleep(0.2)
            for name, process in list(running.items()):
                if process.poll() is None:
                    continue
                del running[name]
                summary = summary_of(folder / name)
                if process.returncode or summary is None:
                    failed.append(name)
                    say(f"{name}: exit code {process.returncode}: {_last_line(folder / name)}")
                else:
                    say(f"{name}: {_accuracy(summary)}")
    finally:
        for process in running.values():  # they save and go on another time
            process.terminate()
        for process in running.values():
            process.wait()
    return failed


def _start(workdir: Path, changes: Changes, arguments: Iterable[str]) -> subprocess.Popen:
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / MARK).write_text(json.dumps(changes, default=str) + "\n", encoding="utf-8")
    words = [sys.executable, "-m", "crnn_jax.main", *arguments, *flags_of(changes)]
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
