"""Annotations of other programs that do not have a line an image, as lines `path TAB label`.

json    labels.json, {"a.png": "Lube"}               docTR
csv     labels.csv with the header filename,words    EasyOCR
gt      a folder of a.png and a.gt.txt               tesstrain, kraken
"""

import contextlib
import csv
import json
import os
from collections.abc import Iterable, Iterator

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import text_lines
from crnn_jax.data.source import LONGEST_LABEL, progress_bar

HEADER = "filename,words"
TEXT = ".gt.txt"
WANTED = 'want one object of paths and labels, {"a.png": "Lube"}'


def convert_file(path: str, format: str) -> tuple[str, bytes] | None:  # noqa: A002
    """(format, lines) of a JSON or CSV file; None if it is neither, or cannot be read."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            header = file.readline(64).strip().lower().replace('"', "") == HEADER
            if format == "csv" or (format == "auto" and header):
                if not header:
                    file.seek(0)
                return "csv", _lines(_csv_pairs(path, file, 1 + header))
            if format == "json" or (format == "auto" and path.lower().endswith(".json")):
                file.seek(0)
                return "json", _lines(_json_pairs(path, file.read()))
    except (OSError, UnicodeDecodeError):  # reported where lines are read
        pass
    return None


def convert_folder(folder: str, listing: bytes, format: str) -> bytes | None:  # noqa: A002
    """The images of a listing with the texts beside them; None if there are none.

    An image without one has an empty label, and is counted so.
    """
    names = listing.decode().split("\n")
    texts = [os.path.splitext(name)[0] + TEXT for name in names]
    # Folders are listed: to look for each text takes minutes where files are far away.
    folders = {os.path.dirname(name) for name in names if format in ("auto", "gt")}
    there = {os.path.join(f, text) for f in folders for text in os.listdir(os.path.join(folder, f))}
    if there.isdisjoint(texts):
        return None

    def pairs() -> Iterator[tuple[str, str]]:
        with progress_bar(f"{folder}: texts read", len(names)) as bar:
            for name, text in zip(names, texts, strict=True):
                path = os.path.join(folder, text)
                lines = text_lines(path, LONGEST_LABEL * 4) if text in there else ()
                yield name, " ".join(lines).rstrip()
                bar.update()

    return _lines(pairs())


def _csv_pairs(path: str, lines: Iterable[str], first: int) -> Iterator[tuple[str, str]]:
    for number, line in enumerate((line.rstrip("\n") for line in lines), first):
        row: list[str] = []
        with contextlib.suppress(csv.Error):
            row = next(csv.reader([line], strict=True), [])
        if len(row) != 2:  # EasyOCR knows no quotes: the label is all behind the first comma
            row = line.split(",", 1)
        if len(row) == 2:
            yield row[0], row[1]
        elif line.strip():
            raise UserError(f"{path}:{number}: no comma; want {HEADER}")


def _json_pairs(path: str, text: str) -> Iterator[tuple[str, str]]:
    try:
        labels = json.loads(text)
        json.dumps(labels, ensure_ascii=False).encode()  # no half of a surrogate pair
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); {WANTED}") from None
    if not isinstance(labels, dict) or not all(isinstance(x, str) for x in labels.values()):
        raise UserError(f"{path}: {WANTED}")
    yield from labels.items()


def _lines(pairs: Iterable[tuple[str, str]]) -> bytes:
    clean = str.maketrans("\t\r\n", "   ")  # what would end a path or a label
    return "".join(f"{p.translate(clean)}\t{x.translate(clean)}\n" for p, x in pairs).encode()
