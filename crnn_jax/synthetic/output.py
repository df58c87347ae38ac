"""Rendered words as files: MJSynth's folders and names, with annotation files.

    1/1/2_Harbour_117.jpg      image 2 of folder 1/1; the label; its line in lexicon.txt
    annotation.txt             ./1/1/2_Harbour_117.jpg 117, as in MJSynth
    labels.tsv                 1/1/2_Harbour_117.jpg TAB Harbour
    lexicon.txt                all labels in lower case, one a line, counted from 0

A label that cannot be part of a file name (`$5/kg`, or 200 bytes) makes the names plain numbers,
and labels.tsv the only annotation file; up to a hundred images lie in the folder itself. Images do
not depend on the number of workers.
"""

import io
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import whole_file
from crnn_jax.data.loader import end_with_parent
from crnn_jax.synthetic.source import SyntheticSource

FOLDER = 100  # images in a folder, and folders in a folder
CHUNK = 50  # images a worker makes at a time


def write_folder(source: SyntheticSource, out: Path, count: int, workers: int = 1) -> Iterator[int]:
    """Renders samples 0 .. count - 1 into a new or empty folder, in so many processes (1: here).

    Yields how many are there, now and then.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise UserError(f"{out}: not empty; name a new folder")
    except OSError as error:
        raise UserError(f"{out}: no folder can be made here ({error.strerror})") from error
    labels = [source.text(i) for i in range(count)]
    names = _names(labels)
    for folder in {name.rpartition("/")[0] for name in names}:
        (out / folder).mkdir(parents=True, exist_ok=True)
    yield from accumulate(_render(source, out, names, workers))
    # last: a folder without it was never finished
    files: dict[str, Iterable[str]] = {}
    if "_" in names[0]:
        files["lexicon.txt"] = sorted({label.lower() for label in labels})
        numbers = (n.rsplit("_", 1)[1].removesuffix(".jpg") for n in names)
        files["annotation.txt"] = map("./{} {}".format, names, numbers)
    files["labels.tsv"] = map("\t".join, zip(names, labels, strict=True))
    for name, lines in files.items():
        with whole_file(out / name) as file:
            file.writelines(f"{line}\n" for line in lines)


def _names(labels: list[str]) -> list[str]:
    plain = all(label.isalnum() and len(label.encode()) < 200 for label in labels)
    line_of = {word: n for n, word in enumerate(sorted({label.lower() for label in labels}))}
    names = []
    for i, label in enumerate(labels):
        deep = f"{i // FOLDER**2 + 1}/{i // FOLDER % FOLDER + 1}/{i % FOLDER + 1}"
        place = deep if len(labels) > FOLDER else str(i + 1)
        names.append(f"{place}_{label}_{line_of[label.lower()]}.jpg" if plain else f"{place}.jpg")
    return names


_received: list[tuple[SyntheticSource, Path]] = []  # a worker's own copy


def _render(source: SyntheticSource, out: Path, names: list[str], workers: int) -> Iterator[int]:
    chunks = ((at, names[at : at + CHUNK]) for at in range(0, len(names), CHUNK))
    if workers <= 1:
        _received[:] = [(source, out)]
        yield from map(_draw, chunks)
        return
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), _receive, (source, out)) as pool:
            yield from pool.map(_draw, chunks)
    except BrokenProcessPool as error:
        raise UserError("a process that draws images was killed") from error


def _receive(source: SyntheticSource, out: Path) -> None:
    _received[:] = [(source, out)]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits
    threading.Thread(target=end_with_parent, daemon=True).start()


def _draw(chunk: tuple[int, list[str]]) -> int:
    (source, out), (start, names) = _received[0], chunk
    for i, name in enumerate(names, start):
        save_image(out / name, source.draw(i))
    return len(names)


def save_image(path: Path, image: np.ndarray | Image.Image) -> None:
    """Writes uint8 [h w c] or a Pillow image in the format of its suffix, JPEG in quality 95."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    try:
        encoded = io.BytesIO()
        image.save(encoded, Image.registered_extensions()[path.suffix.lower()], quality=95)
        # Written by Pillow, an image is cut short in silence where the disk takes no more of it.
        path.write_bytes(encoded.getvalue())
    except KeyError:
        raise UserError(f"{path}: cannot be written: {path.suffix!r} is no image's") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
