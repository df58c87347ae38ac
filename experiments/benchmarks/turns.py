"""Subjects take turns, so that a busy moment of the machine hits all of them."""

import statistics
import sys
import time
from collections.abc import Callable, Mapping

LEAST = 0.2  # seconds of a turn: a short subject is called several times in it
PAUSE = 0.02  # between turns: threads that spin while they wait must not cost the next subject


def take_turns(
    subjects: Mapping[str, Callable[[], object]], turns: int, what: str = ""
) -> dict[str, list[float]]:
    """Seconds a call, one figure a turn, of every subject; all are warm before the first turn.

    Args:
        subjects: name -> what is timed; it must wait for its own answer.
        turns: of each.
        what: said on stderr.
    """
    calls = {}
    for name, run in subjects.items():
        run()
        start = time.perf_counter()
        run()
        calls[name] = max(1, int(LEAST / max(time.perf_counter() - start, 1e-6)))
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for turn in range(turns):
        for name, run in subjects.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            for _ in range(calls[name]):
                run()
            seconds[name].append((time.perf_counter() - start) / calls[name])
        print(f"{what}: turn {turn + 1} of {turns}", file=sys.stderr)
    return seconds


def rows_of(seconds: Mapping[str, list[float]], images: int, **about: object) -> list[dict]:
    """One row a subject: images a second and milliseconds (medians), and ours beside it.

    The ratio is the median over the turns of the subject's seconds / those of 'crnn_jax' in the
    same turn: above 1 ours was the faster one.
    """
    rows = []
    for name, times in seconds.items():
        median = statistics.median(times)
        row = {"subject": name, **about, "images_per_second": round(images / median, 1)}
        row["ms"] = round(1e3 * median, 3)
        ours = seconds.get("crnn_jax")
        if ours is not None and name != "crnn_jax":
            paired = [a / b for a, b in zip(times, ours, strict=True)]
            row["ours is faster by"] = round(statistics.median(paired), 3)
        rows.append(row)
    return rows
