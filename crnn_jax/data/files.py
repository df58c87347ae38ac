"""Labelled pictures stored on disk: an annotation file, a folder, an LMDB, ArrayRecord shards."""

import copy
import functools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.images import MISSING, UnreadableImage, decode_image
from crnn_jax.data.annotations import Annotation
from crnn_jax.data.index import LabelEncoder, PictureSizes, build_index, cache_paths, cached_index
from crnn_jax.data.progress import Progress
from crnn_jax.data.records import open_records
from crnn_jax.data.source import (
    CHANGED,
    EXAMPLES,
    STATUS,
    Reasons,
    gather,
    shown,
    shown_path,
)

# What people should know of labels and paths that are used all the same.
COMPOSED = "label not in NFC, composed"
STRIPPED = "label without its unknown characters (data.unknown='strip')"
MAPPED = "label with <UNK> for its unknown characters (data.unknown='map')"
OUTSIDE = "path absolute, or out of the folder by '..': read all the same"

FIRST_PICTURES = 20  # looked for before a wrong folder is reported


class FileSource:
    """The samples of a stored set, by an index of their labels.

    Args:
        path: of the annotation file, of a folder whose file names are the labels, of an LMDB or of
            ArrayRecord shards; FOLDER/SPLIT for shards of several splits.
        charset: turns labels into class ids.
        format: a name of `annotations.PARSERS`, `package.module:function`, or 'auto'.
        images: folder at which the paths start; '' is the annotation file's own.
        unknown: what becomes of characters outside the table (`Charset.encode`).
        channels: of the pictures that `read` returns, 1 or 3.
        cache: keep what is found out about the set on disk where it took long.

    Raises:
        UserError: naming file and line.
    """

    windowed = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        charset: Charset,
        *,
        format: str = "auto",  # noqa: A002 (the config's own name for it)
        images: str = "",
        unknown: str = "unusable",
        channels: int = 1,
        cache: bool = False,
    ) -> None:
        self.name = os.fspath(path)
        reader = open_records(self.name) or Annotation(self.name, format, images)
        self.reader = reader
        self.format = reader.format
        self.charset = charset
        self.unknown = unknown
        self.channels = channels
        # A parser of one's own may change without its name changing: nothing is kept.
        self._cache = cache and ":" not in self.format
        encode = LabelEncoder(charset, unknown)
        progress = Progress(f"{self.name}: labels indexed", reader.total)
        key = {"charset": charset.to_metadata(), "unknown": unknown, "asked": format}
        self.index = cached_index(
            self.cache_paths("index", key),
            reader.stamp(),
            lambda: build_index(reader.blocks(), encode, progress),
        )
        if not len(self):
            raise UserError(f"{self.name}: no samples in this {self.format} set")
        paths = self.cache_paths("sizes", {"root": os.path.abspath(reader.root)})
        self._sizes = PictureSizes(reader, self.index, paths)
        self._ids: np.ndarray | None = None  # of a part, in the whole

    def part(self, ids: np.ndarray, name: str = "", reasons: Reasons | None = None) -> "FileSource":
        """Some samples, numbered anew.

        Args:
            ids: integer [m].
            name: '' keeps the whole's.
            reasons: why others were left out, to be reported instead of the members' own.
        """
        part = copy.copy(self)
        part.name = name or self.name
        part.index = self.index.part(ids)
        part._ids = np.asarray(ids, np.int64) if self._ids is None else self._ids[ids]
        part.reasons = part._count_reasons() if reasons is None else reasons
        return part

    def cache_paths(self, kind: str, key: dict[str, Any]) -> list[str]:
        """Where something found out about the samples may be kept; nowhere if it is not to be."""
        return cache_paths(self.name, kind, key | {"format": self.format}) if self._cache else []

    def __len__(self) -> int:
        return len(self.index)

    @property
    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """(class ids of all labels, int64 offsets [n + 1])."""
        return self.index.flat, self.index.label_offsets

    def labels_of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(class ids of these samples' labels, int64 offsets [m + 1])."""
        return gather(*self.labels, ids)

    @property
    def usable(self) -> np.ndarray:
        """bool [n]: the label is there and inside the table."""
        return self.index.status == 0

    @functools.cached_property
    def reasons(self) -> Reasons:
        """Why the others cannot be used."""
        return self._count_reasons()

    def _count_reasons(self) -> Reasons:
        reasons = Reasons()
        for k, reason in enumerate(STATUS[1:], 1):
            ids = np.flatnonzero(self.index.status == k)
            reasons.add(reason, map(self.where, ids[:EXAMPLES].tolist()), ids.size)
        return reasons

    @property
    def notes(self) -> Reasons:
        """Labels that are trained on, but not as they are written; paths that are odd."""
        notes, counts = self.path_notes(), self.index.counts
        notes.add(COMPOSED, count=counts["not NFC"])
        changed = {"strip": STRIPPED, "map": MAPPED}.get(self.unknown)
        if changed is not None:
            notes.add(changed, count=counts["unknown"])
        return notes

    def path_notes(self) -> Reasons:
        """Paths that lead out of the folder, names in it that were left out."""
        notes, counts, reader = Reasons(), self.index.counts, self.reader
        if counts["outside"]:
            first = counts["first outside"]
            example = f"{reader.where(first)} {shown(reader.line(first)[0])}"
            notes.add(OUTSIDE, [example], counts["outside"])
        notes.add(reader.why_left_out, map(shown, reader.left_out), len(reader.left_out))
        return notes

    def case_note(self) -> str:
        """`file:line 'label'` of the first label that fails on case alone; '' for none."""
        counts = self.index.counts
        return self._where(counts["first case"]) if counts["case"] else ""

    def _place(self, index: int) -> int:
        return int(self.index.places[index])

    def where(self, index: int) -> str:
        """`file:line 'label'` of a sample, for lists of what was left out."""
        return self._where(self._place(index))

    def _where(self, place: int) -> str:
        return f"{self.reader.where(place)} {shown(self.reader.line(place)[1])}"

    def line(self, index: int) -> tuple[str, str]:
        """(path, label) of a sample as the annotation writes them."""
        return self.reader.line(self._place(index))

    def written_paths(self) -> Iterator[str]:
        """The paths of all samples as the annotation writes them, wherever the set is moved."""
        return (p.removeprefix("./") for block in self.reader.blocks() for p in block.paths)

    def identity(self, index: int) -> str:
        """Where a sample's picture lies."""
        return os.path.join(self.reader.root, self.line(index)[0])

    def content(self, index: int) -> str | bytes:
        """A sample's picture as `decode_image` takes it: a path, or the encoded bytes."""
        return self.reader.content(self._place(index))

    def text(self, index: int) -> str:
        """The label, normalized; characters outside the table are still there."""
        return self.charset.normalize(self.line(index)[1])

    def sizes(self, ids: np.ndarray) -> np.ndarray:
        """int32 [m, 2]: heights and widths out of the pictures' headers, each read once."""
        return self._sizes(ids if self._ids is None else self._ids[ids])

    def read(self, ids: np.ndarray) -> list[np.ndarray | str]:
        """uint8 [h w channels] for each sample, or the reason why it cannot be read."""
        pictures: list[np.ndarray | str] = []
        for i in np.asarray(ids, np.int64).tolist():
            try:
                picture = decode_image(self.content(i), self.channels)
            except UnreadableImage as error:
                pictures.append(error.reason)
                continue
            known = self._sizes.known(i if self._ids is None else int(self._ids[i]))
            pictures.append(CHANGED if known not in (None, picture.shape[:2]) else picture)
        return pictures

    def require_pictures(self) -> None:
        """Raises UserError, naming the first, where none of the first pictures is there."""
        for i in range(min(FIRST_PICTURES, len(self))):
            try:
                content = self.content(i)
            except UnreadableImage as error:
                if error.reason == MISSING:
                    continue
                return
            if isinstance(content, bytes) or os.path.exists(content):
                return
        where, path = self.reader.where(self._place(0)), shown_path(self.identity(0))
        raise UserError(f"{where}: no picture {path}{self.reader.no_picture}")

    def require_case(self) -> None:
        """Raises UserError where more than 1 % of the labels fail on case alone."""
        share = self.index.counts["case"] / len(self)
        if share > 0.01:
            raise UserError(
                f"{self.case_note()}: outside the table by its case alone, as "
                f"{100 * share:.1f} % of the labels are; set charset.ignore_case=True or add the "
                f"letters"
            )
