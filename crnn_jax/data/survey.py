"""One pass over a set's lines for what training does not ask: white space, duplicates, overlap."""

import dataclasses
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

from crnn_jax.core.images import UnreadableImage
from crnn_jax.data.files import FileSource
from crnn_jax.data.formats import shown_path
from crnn_jax.data.source import EXAMPLES, Reasons

NOT_NFC = "label not in NFC (composed when read)"
ODD_SPACE = "odd white space in the label"
SAME_PATH = "picture listed again"
OTHER_LABEL = "picture listed again with another label"
SAME_BYTES = "same bytes as another picture"

# At an end, doubled, other than U+0020, or not to be seen at all.
_ODD_SPACE = re.compile(r"^\s|\s$|\s\s|[^\S ]|[\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u2060\ufeff]")


@dataclasses.dataclass
class Survey:
    """What one pass finds.

    Attributes:
        notes: oddities counted with examples; none of them stops training.
        paths: uint64 [n], a hash of each picture's place in the file system.
        contents: uint64 [n], a hash of each picture's bytes; 0 where it was not read.
    """

    notes: Reasons
    paths: np.ndarray
    contents: np.ndarray


def survey(source: FileSource, read_bytes: bool = False) -> Survey:
    """Looks at every line of a set.

    Args:
        source: the set.
        read_bytes: also compare the pictures' bytes: reads every file.
    """
    notes = Reasons()
    paths = np.zeros(len(source), np.uint64)
    contents = np.zeros(len(source), np.uint64)
    for i in range(len(source)):
        path, label = source.line(i)
        place = os.path.abspath(os.path.join(source.root, path))
        paths[i] = _hash(place.encode("utf-8", "surrogatepass"))
        if read_bytes:
            contents[i] = _hash_of_content(source, i)
        if not label.isascii() and not unicodedata.is_normalized("NFC", label):
            notes.add(NOT_NFC, [source.where(i)])
        if _ODD_SPACE.search(label):
            notes.add(ODD_SPACE, [source.where(i)])
    _note_repetitions(source, paths, contents, notes)
    return Survey(notes, paths, contents)


def _note_repetitions(
    source: FileSource, paths: np.ndarray, contents: np.ndarray, notes: Reasons
) -> None:
    for first, others in _groups(paths):
        texts = {i: source.text(i) for i in (first, *others)}
        differing = [i for i in others if texts[i] != texts[first]]
        equal = [i for i in others if texts[i] == texts[first]]
        notes.add(SAME_PATH, map(source.where, equal), len(equal))
        notes.add(OTHER_LABEL, map(source.where, differing), len(differing))
    unlike = contents.copy()
    unlike[np.setdiff1d(np.arange(len(paths)), _first_of_each(paths))] = 0
    for first, others in _groups(unlike):
        at = source.path(first)
        pairs = (f"{shown_path(source.path(i))} = {shown_path(at)}" for i in others[:EXAMPLES])
        notes.add(SAME_BYTES, pairs, len(others))


def _first_of_each(values: np.ndarray) -> np.ndarray:
    return np.unique(values, return_index=True)[1]


def _groups(values: np.ndarray) -> Iterable[tuple[int, list[int]]]:
    """(first, further places) of every value but 0 that stands several times."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    begins = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
    ends = np.append(begins[1:], values.size)
    for k in np.flatnonzero((ends - begins > 1) & (ranked[begins] != 0)).tolist():
        members = order[begins[k] : ends[k]].tolist()
        yield members[0], members[1:]


def overlap(
    sources: Sequence[FileSource], surveys: Sequence[Survey]
) -> list[tuple[str, str, str, list[int]]]:
    """Pictures that stand in two sets.

    Returns:
        (name of one set, name of a later one, 'path' or 'bytes', ids in the later one) for every
        pair that shares any; pictures found by their path are not named again by their bytes.
    """
    found = []
    for j in range(len(sources)):
        for i in range(j):
            one, other = surveys[i], surveys[j]
            by_path = np.isin(other.paths, one.paths)
            by_bytes = np.isin(other.contents, one.contents) & (other.contents != 0) & ~by_path
            for kind, shared in (("path", by_path), ("bytes", by_bytes)):
                if shared.any():
                    ids = np.flatnonzero(shared).tolist()
                    found.append((sources[i].name, sources[j].name, kind, ids))
    return found


def _hash(data: bytes) -> int:
    # Of 10 million values two are alike by chance once in 400,000 sets.
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") or 1


def _hash_of_content(source: FileSource, index: int) -> int:
    try:
        content = source.content(index)
        if isinstance(content, bytes):
            return _hash(content)
        with open(content, "rb") as file:
            return _hash(file.read())
    except (OSError, ValueError, UnreadableImage):
        return 0
