"""Rendered words as files: MJSynth's folders and names, with annotation files.

    1/1/2_Harbour_117.jpg      picture 2 of folder 1/1; the label; its line in lexicon.txt
    annotation.txt             ./1/1/2_Harbour_117.jpg 117, as in MJSynth
    labels.tsv                 1/1/2_Harbour_117.jpg TAB Harbour
    lexicon.txt                all labels in lower case, one a line, counted from 0

A label that cannot be part of a file name (`$5/kg`) makes the names plain numbers, and
labels.tsv the only annotation file; up to a hundred pictures lie in the folder itself. Pictures do
not depend on the number of workers.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from pathlib import Path

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import whole_file
from crnn_jax.synthetic.sheet import save_picture
from crnn_jax.synthetic.source import SyntheticSource

FOLDER = 100  # pictures in a folder, and folders in a folder
CHUNK = 50  # pictures a worker makes at a time

Task = tuple[int, str]  # sample, path


def write_folder(source: SyntheticSource, out: Path, count: int, workers: int = 1) -> Iterator[int]:
    """Renders samples 0 .. count - 1 into a folder; yields how many are there, now and then.

    Args:
        source: what to render.
        out: a new or empty folder.
        count: number of pictures.
        workers: processes; 1 renders in this one.

    Raises:
        UserError: the folder holds something or cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise UserError(f"{out}: not empty; name a new folder")
    except OSError as error:
        raise UserError(f"{out}: no folder can be made here ({error.strerror})") from error
    labels = [source.text(i) for i in range(count)]
    names = _names(labels)
    for folder in sorted({(out / name).parent for name in names}):
        folder.mkdir(parents=True, exist_ok=True)
    tasks = [(i, str(out / name)) for i, name in enumerate(names)]
    chunks = [tasks[at : at + CHUNK] for at in range(0, count, CHUNK)]
    done = 0
    for made in _render(source, chunks, workers):
        done += made
        yield done
    _annotate(out, names, labels)  # last: a folder without it was never finished


def _names(labels: list[str]) -> list[str]:
    plain = all(label.isalnum() for label in labels)
    line_of = {word: n for n, word in enumerate(sorted({label.lower() for label in labels}))}
    names = []
    for i, label in enumerate(labels):
        place = f"{i // FOLDER**2 + 1}/{i // FOLDER % FOLDER + 1}/{i % FOLDER + 1}"
        if len(labels) <= FOLDER:
            place = str(i + 1)
        names.append(f"{place}_{label}_{line_of[label.lower()]}.jpg" if plain else f"{place}.jpg")
    return names


def _annotate(out: Path, names: list[str], labels: list[str]) -> None:
    pairs = list(zip(names, labels, strict=True))
    _write(out / "labels.tsv", (f"{name}\t{label}" for name, label in pairs))
    if "_" in names[0]:
        _write(out / "lexicon.txt", sorted({label.lower() for label in labels}))
        lines = (f"./{n} {n.rsplit('_', 1)[1].removesuffix('.jpg')}" for n in names)
        _write(out / "annotation.txt", lines)


def _write(path: Path, lines: Iterable[str]) -> None:
    with whole_file(path) as file:
        file.writelines(f"{line}\n" for line in lines)


def _render(source: SyntheticSource, chunks: list[list[Task]], workers: int) -> Iterator[int]:
    if workers <= 1:
        for chunk in chunks:
            yield _draw(source, chunk)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _receive, (source,)) as pool:
        yield from pool.imap_unordered(_draw_received, chunks)


_received: list[SyntheticSource] = []  # a worker's own copy


def _receive(source: SyntheticSource) -> None:
    _received.append(source)


def _draw_received(chunk: list[Task]) -> int:
    return _draw(_received[0], chunk)


def _draw(source: SyntheticSource, chunk: list[Task]) -> int:
    for i, path in chunk:
        save_picture(Path(path), source.draw(i))
    return len(chunk)
