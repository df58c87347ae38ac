"""One pass over an annotation file: where each line begins, its label in class ids, its status."""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable
from posixpath import normpath
from typing import Any

import numpy as np
import numpy.typing as npt

from crnn_jax.core.errors import UserError
from crnn_jax.data.cache import cache_paths, load, save
from crnn_jax.data.encoding import LabelEncoder, LabelError, count_denormalized
from crnn_jax.data.formats import Parser, shown
from crnn_jax.data.lines import Lines, decoded
from crnn_jax.data.progress import Progress

ARRAYS = ("line_offsets", "flat", "label_offsets", "status")
WORTH_SECONDS = 1.0  # of indexing before it is written down


@dataclasses.dataclass
class Index:
    """What is kept of n samples: about 20 bytes each, and 2 a character.

    Attributes:
        line_offsets: int64 [n], byte at which each line begins.
        flat: class ids of all labels one after the other (see `Encoded.flat`).
        label_offsets: int64 [n + 1].
        status: uint8 [n], index into `encoding.STATUS`.
        counts: 'not NFC', 'unknown' (labels with a character outside the table), 'case' (labels
            that fail on case alone), 'outside' (paths that leave the folder); 'first case' and
            'first outside' are the first such samples, -1 for none.
        unknown: character -> how often it stands in the labels.
        file: the cache that the arrays are mapped from, '' where they are in memory.
    """

    line_offsets: np.ndarray
    flat: np.ndarray
    label_offsets: np.ndarray
    status: np.ndarray
    counts: dict[str, int]
    unknown: Counter[str]
    file: str = ""

    def __len__(self) -> int:
        return len(self.line_offsets)

    def __reduce__(self) -> Any:
        # A worker process maps the same pages instead of being sent hundreds of megabytes.
        if self.file:
            return _mapped_index, (self.file,)
        values = [getattr(self, field.name) for field in dataclasses.fields(self)]
        return Index, tuple(values)


def cached_index(
    lines: Lines,
    parse: Parser,
    encode: LabelEncoder,
    format_name: str,
    keep: bool,
    asked: str,
) -> Index:
    """`build_index`, or what it gave before.

    Args:
        keep: look for a cache, and write one where indexing took long.
        asked: `data.format`: what is found is held to more than what is named.
    """
    progress = Progress(f"{lines.path}: bytes indexed", lines.size)
    if not keep:
        return build_index(lines, parse, encode, format_name, progress)
    charset = encode.charset.to_metadata()
    key = {"charset": charset, "unknown": encode.unknown, "format": asked}
    paths, stamp = cache_paths(lines.path, "index", key), lines.stamp()
    found = load(paths, stamp)
    if found is not None:
        return _index_of(*found)
    started = time.monotonic()
    index = build_index(lines, parse, encode, format_name, progress)
    if time.monotonic() - started > WORTH_SECONDS:
        arrays = {name: getattr(index, name) for name in ARRAYS}
        save(paths, stamp, [index.counts, index.unknown], arrays)
    return index


def _index_of(path: str, note: Any, arrays: dict[str, np.ndarray]) -> Index:
    return Index(**arrays, counts=note[0], unknown=Counter(note[1]), file=path)


def _mapped_index(path: str) -> Index:
    found = load([path], None)
    if found is None:
        raise RuntimeError(f"{path}: the index is not there any more")
    return _index_of(*found)


def build_index(
    lines: Lines,
    parse: Parser,
    encode: LabelEncoder,
    format_name: str,
    progress: Callable[[int], None] | None = None,
) -> Index:
    """Reads every line once.

    Args:
        lines: of the annotation file.
        parse: line -> (path, label).
        encode: of the charset in use.
        format_name: what the lines are required to be, for messages.
        progress: called with the bytes read so far, once a block.

    Raises:
        UserError: naming the line that is not UTF-8 or does not fit the format.
    """
    offsets, lengths = Growing(np.int64), Growing(np.int64)
    flat, status = Growing(encode.dtype), Growing(np.uint8)
    counts = no_counts()
    unknown: Counter[str] = Counter()
    lengths.append([0])
    for begin, block in lines.blocks():
        starts, labels, outside = _parse_block(lines, begin, block, parse, format_name)
        try:
            part = encode(labels)
        except LabelError as error:
            raise UserError(f"{lines.where(starts[error.indices[0]])}: {error}") from None
        counts["not NFC"] += count_denormalized(labels)
        counts["unknown"] += int(part.has_unknown.sum())
        if part.case_alone.any():
            counts["case"] += int(part.case_alone.sum())
            if counts["first case"] < 0:
                counts["first case"] = offsets.size + int(part.case_alone.argmax())
        unknown.update(part.unknown)
        if outside:
            counts["outside"] += len(outside)
            if counts["first outside"] < 0:
                counts["first outside"] = offsets.size + outside[0]
        offsets.append(starts)
        lengths.append(part.lengths)
        flat.append(part.flat)
        status.append(part.status)
        if progress is not None:
            progress(begin + len(block))
    lines.require_unchanged()
    if not offsets.size:
        raise UserError(f"{lines.path}: no lines in the annotation file")
    label_offsets = lengths.array()
    np.cumsum(label_offsets, out=label_offsets)
    return Index(offsets.array(), flat.array(), label_offsets, status.array(), counts, unknown)


def no_counts() -> dict[str, int]:
    """`Index.counts` before anything is counted."""
    return dict.fromkeys(("not NFC", "unknown", "case", "outside"), 0) | {
        "first case": -1,
        "first outside": -1,
    }


class Growing:
    """An array of unknown length: pieces kept for joining would take its memory twice."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self.size = 0
        self._data = np.empty(1 << 12, dtype)

    def append(self, values: npt.ArrayLike) -> None:
        """Adds values [m] at the end."""
        values = np.asarray(values, self._data.dtype)
        end = self.size + values.size
        if end > self._data.size:
            # refcheck: nobody else holds this array, and the system moves its pages, not bytes.
            self._data.resize(max(end, self._data.size * 5 // 4), refcheck=False)
        self._data[self.size : end] = values
        self.size = end

    def array(self) -> np.ndarray:
        """The array [n]; nothing can be added any more."""
        self._data.resize(self.size, refcheck=False)
        return self._data


def _parse_block(
    lines: Lines, begin: int, block: bytes, parse: Parser, format_name: str
) -> tuple[list[int], list[str], list[int]]:
    """(byte at which each begins, its label, those whose paths leave) of a block's lines.

    Blank lines are left out.
    """
    starts: list[int] = []
    labels: list[str] = []
    outside: list[int] = []
    at = begin
    # Bytes are counted before decoding, lines split after it: UTF-8 has no line end inside.
    sizes = map(len, block.split(lines.end))
    texts = decoded(block, lines, begin).split(lines.end.decode())
    for size, line in zip(sizes, texts, strict=True):
        if line and not line.isspace():
            try:
                path, label = parse(line.removesuffix("\r"))
            except ValueError as error:
                raise UserError(
                    f"{lines.where(at)}: {shown(line.strip())} is not {format_name}: {error}"
                ) from None
            if path.startswith("/") or (".." in path and normpath(path).startswith("..")):
                outside.append(len(starts))
            starts.append(at)
            labels.append(label)
        at += size + 1
    return starts, labels, outside
