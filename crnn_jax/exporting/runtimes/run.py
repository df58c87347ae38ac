"""Reads the pictures of a job with one runtime; started as a script in the job's folder.

The folder holds job.json and pictures.npz; answers.npz and answers.json are written beside them.
"""

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

ENOUGH = 5.0  # seconds of timing
EVERY = 5.0  # seconds between lines about progress
AT_ONCE = 16  # pictures, where the file leaves it open


class Blocker:
    """Makes packages look as if they were not installed."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = frozenset(names)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:  # noqa: ARG002
        """Part of the import system's protocol."""
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is blocked in this process", name=name)


def main(folder: str) -> None:
    """Answers the job in `folder`."""
    with open(os.path.join(folder, "job.json"), encoding="utf-8") as file:
        job = json.load(file)
    sys.meta_path.insert(0, Blocker(job["blocked"]))
    import numpy as np

    reader = open_reader(job)
    with np.load(os.path.join(folder, "pictures.npz")) as stored:
        pictures = unpack(stored["levels"], stored["widths"], job["height"], job["channels"])

    def read(places: Sequence[int]) -> dict[str, Any]:
        return reader.arrays(np.stack([pictures[i] for i in places]))

    answers: list[dict[str, Any]] = [{}] * len(pictures)
    batches = by_width(pictures, job["batch"] or AT_ONCE)
    for places in progress(batches, "read as arrays"):
        found = read(places)
        for row, i in enumerate(places):
            answers[i] = {name: values[row] for name, values in found.items()}
    speed = measure(read, batches)

    of_files, files_speed = None, None
    if job["files"] and hasattr(reader, "files"):

        def read_files(paths: Sequence[str]) -> list[str]:
            return reader.files([contents(path) for path in paths])

        files = job["files"]
        groups = [files[i : i + AT_ONCE] for i in range(0, len(files), AT_ONCE)]
        of_files = [
            text for group in progress(groups, "read as files") for text in read_files(group)
        ]
        files_speed = measure(read_files, groups)

    arrays = {}
    for name, lengths in (("scores", "frames"), ("ids", "columns")):
        if name in answers[0]:
            rows = [np.asarray(answer[name]) for answer in answers]
            arrays[name] = np.concatenate([row.reshape(-1) for row in rows])
            arrays[lengths] = np.array([len(row) for row in rows])
    np.savez(os.path.join(folder, "answers.npz"), **arrays)  # type: ignore[arg-type]
    told = {
        "version": reader.version,
        "texts": [answer["texts"] for answer in answers] if "texts" in answers[0] else None,
        "files": of_files,
        "images_per_second": speed,
        "files_per_second": files_speed,
        "blocked_but_imported": sorted(set(job["blocked"]) & set(sys.modules)),
    }
    with open(os.path.join(folder, "answers.json"), "w", encoding="utf-8") as file:
        json.dump(told, file)


def open_reader(job: dict[str, Any]) -> Any:
    """Loads the runtime's script by its path: the package it lies in is blocked."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), job["runtime"] + ".py")
    spec = importlib.util.spec_from_file_location("runtime", script)
    assert spec is not None
    assert spec.loader is not None
    runtime = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runtime)
    return runtime.open_model(job)


def unpack(levels: Any, widths: Any, height: int, channels: int) -> list[Any]:
    """The pictures out of one flat array."""
    pictures, start = [], 0
    for width in widths.tolist():
        end = start + height * width * channels
        pictures.append(levels[start:end].reshape(height, width, channels))
        start = end
    return pictures


def by_width(pictures: Sequence[Any], most: int) -> list[list[int]]:
    """Lists of places in `pictures`, of one width each, at most so many long."""
    groups: dict[int, list[int]] = {}
    for i, picture in enumerate(pictures):
        groups.setdefault(picture.shape[1], []).append(i)
    return [g[i : i + most] for g in groups.values() for i in range(0, len(g), most)]


def contents(path: str) -> bytes:
    """A file's bytes; none where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def measure(read: Callable[[Any], Any], batches: Sequence[Any]) -> float:
    """Pictures a second of what has been read once: nothing compiles any more."""
    count, started = 0, time.perf_counter()
    for batch in batches:
        read(batch)
        count += len(batch)
        if time.perf_counter() - started > ENOUGH:
            break
    return count / max(time.perf_counter() - started, 1e-9)


def progress(batches: Sequence[Any], what: str) -> Iterator[Any]:
    """The batches, with a line now and then where it takes long."""
    started = said = time.monotonic()
    done, total = 0, sum(map(len, batches))
    for batch in batches:
        yield batch
        done += len(batch)
        now = time.monotonic()
        if now - said >= EVERY:
            said = now
            left = (now - started) / done * (total - done)
            print(f"{what}: {done:,} of {total:,}, {left:.0f} s left", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(os.getcwd())
