"""Subjects take turns, so that a busy moment of the machine hits all of them."""

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from crnn_jax import cpu_settings

LEAST = 0.2  # seconds of a turn: a short subject is called several times in it
PAUSE = 0.3  # between turns: threads that spin while they wait must not cost the next subject


class Subject:
    """A function in a process of its own, where what one framework sets reaches no other.

    Processes of 'crnn_jax...' begin as our commands do.

    Args:
        name: what it is called.
        make: makes the function, in the process; None means not on this processor.
        arguments: of `make`.

    Raises:
        ImportError: what it needs is not installed.
        LookupError: it is not for this processor.
    """

    def __init__(self, name: str, make: Callable, arguments: tuple) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        work = (name, make, arguments, other)
        self._process = context.Process(target=_serve, args=work, daemon=True)
        self._process.start()
        other.close()
        self._answer()

    def __call__(self, *arguments: object) -> Any:
        """What it makes of `arguments`, which `time` uses too from now on."""
        self._pipe.send(arguments)
        return self._answer()

    def time(self, calls: int) -> float:
        """Seconds of so many calls."""
        self._pipe.send(calls)
        return self._answer()

    def _answer(self) -> Any:
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(name: str, make: Callable, arguments: tuple, pipe: Any) -> None:
    if name.startswith("crnn_jax"):
        cpu_settings.apply()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a GPU's memory is shared
    try:
        run = make(*arguments)
    except ImportError as error:
        return pipe.send(ImportError(f"not installed ({error.name})"))
    pipe.send(LookupError("not on this processor") if run is None else None)
    with_these: tuple = ()
    while run is not None:
        try:
            wanted = pipe.recv()
        except EOFError:
            return None
        if isinstance(wanted, tuple):
            with_these = wanted
            pipe.send(run(*with_these))
        else:
            start = time.perf_counter()
            for _ in range(wanted):
                run(*with_these)
            pipe.send(time.perf_counter() - start)
    return None


def start(wanted: list[str], makers: Mapping[str, Callable], *arguments: object) -> dict:
    """Name -> `Subject`, of those that can be had here."""
    made = {}
    for name in wanted:
        try:
            made[name] = Subject(name, makers[name], arguments)
        except (ImportError, LookupError) as error:
            print(f"{name}: {error}", file=sys.stderr)
    return made


def take_turns(
    subjects: Mapping[str, Subject], turns: int, what: str = ""
) -> dict[str, list[float]]:
    """Seconds a call, one figure a turn, of every subject; all are warm before the first turn.

    Args:
        subjects: name -> what is timed, with the arguments it was last called with.
        turns: of each.
        what: said on stderr.
    """
    calls = {}
    for name, subject in subjects.items():
        subject.time(1)
        second = max(1, int(1 / max(subject.time(1), 1e-6)))
        calls[name] = max(1, int(LEAST / (subject.time(second) / second)))
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for turn in range(turns):
        for name, subject in subjects.items():
            time.sleep(PAUSE)
            seconds[name].append(subject.time(calls[name]) / calls[name])
        print(f"{what}: turn {turn + 1} of {turns}", file=sys.stderr)
    return seconds


def rows_of(seconds: Mapping[str, list[float]], images: int, **about: object) -> list[dict]:
    """One row a subject: images a second and milliseconds (medians), and ours beside it.

    The ratio is the median over the turns of the subject's seconds / ours in the same turn: above 1
    ours was the faster one. Others' bfloat16 is held against our bfloat16.
    """
    rows = []
    for name, times in seconds.items():
        median = statistics.median(times)
        row = {"subject": name, **about, "images_per_second": round(images / median, 1)}
        row["ms"] = round(1e3 * median, 3)
        low = "bfloat16" in name and not name.startswith("crnn_jax")
        ours = seconds.get("crnn_jax, bfloat16" if low else "crnn_jax")
        if ours is not None and name != "crnn_jax":
            paired = [a / b for a, b in zip(times, ours, strict=True)]
            row["ours is faster by"] = round(statistics.median(paired), 3)
        rows.append(row)
    return rows
