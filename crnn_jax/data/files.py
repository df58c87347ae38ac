"""Pictures in files, labelled by an annotation file or by their own names."""

import functools
import itertools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.images import UnreadableImage, decode_image
from crnn_jax.data import formats
from crnn_jax.data.cache import cache_paths
from crnn_jax.data.encoding import STATUS, LabelEncoder
from crnn_jax.data.headers import Headers
from crnn_jax.data.index import Index, cached_index
from crnn_jax.data.lines import Lines, list_pictures
from crnn_jax.data.source import (
    CHANGED,
    COMPOSED,
    EXAMPLES,
    MAPPED,
    NOT_LISTED,
    OUTSIDE,
    STRIPPED,
    Reasons,
    gather,
)

PROBE = 20  # pictures looked for before a wrong folder is reported


class FileSource:
    """The samples of an annotation file, or of a folder whose file names are the labels.

    Args:
        path: of the annotation file or the folder.
        charset: turns labels into class ids.
        format: a name of `formats.PARSERS`, `package.module:function`, or 'auto'.
        images: folder at which the paths start; '' is the annotation file's own.
        unknown: what becomes of characters outside the table (`Charset.encode`).
        channels: of the pictures that `read` returns, 1 or 3.
        cache: keep the index and the pictures' sizes on disk where they took long.

    Attributes:
        format: the format found or named.
        index: offsets, labels and statuses of all lines.
        odd_names: of a folder, what was left out of its listing.

    Raises:
        UserError: naming file and line.
    """

    windowed = False
    statuses: tuple[str, ...] = STATUS  # what a status byte of the index stands for

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
        self.charset = charset
        self.channels = channels
        self.unknown = unknown
        self.odd_names: list[str] = []
        self._asked_for_sizes = False
        if images and not os.path.isdir(images):
            raise UserError(f"data.images={images!r}: no such folder")
        if os.path.isdir(self.name):
            listing, self.odd_names = list_pictures(self.name)
            self.lines = Lines(self.name, listing)
            self.root = self.name
            found = formats.detect_names(self._head()) if format == "auto" else format
            if found not in formats.FOLDER_PARSERS and ":" not in found:
                known = " | ".join(formats.FOLDER_PARSERS)
                raise UserError(f"data.format={found!r}: {self.name} is a folder; want {known}")
            self.parse = formats.FOLDER_PARSERS.get(found) or formats.parser(found)
        else:
            self.lines = Lines(self.name)
            self.root = images or os.path.dirname(self.name)
            found = formats.detect(self._head(), self.name) if format == "auto" else format
            self.parse = formats.parser(found)
            if format == "auto" and found == "simple":
                self.parse = formats.parse_only_simple
        self.format = found
        # A parser of one's own may change without its name changing: it is not kept.
        self._keeps = cache and ":" not in found
        encode = LabelEncoder(charset, unknown)
        self.index: Index = cached_index(
            self.lines, self.parse, encode, found, self._keeps, asked=format
        )

    @functools.cached_property
    def _headers(self) -> Headers:
        paths = self.cache_paths("sizes", {"root": os.path.abspath(self.root)})
        usable = int(np.count_nonzero(self.index.status == 0))
        return Headers(self.content, len(self), usable, paths, self.stamp())

    def cache_paths(self, kind: str, key: dict[str, Any]) -> list[str]:
        """Where something found out about the samples may be kept; nowhere if it is not to be."""
        return cache_paths(self.name, kind, key | {"format": self.format}) if self._keeps else []

    def stamp(self) -> list[Any]:
        """What the set was when it was opened: another stamp, other samples."""
        return self.lines.stamp()

    def _head(self) -> list[str]:
        """The first lines, blank ones left out."""
        return list(itertools.islice(self.lines.texts(1 << 16), formats.DETECT_LINES))

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
        return self.reasons_of(np.arange(len(self)))

    def reasons_of(self, ids: np.ndarray) -> Reasons:
        """The same of some samples."""
        reasons = Reasons()
        status = self.index.status[ids]
        for k, reason in enumerate(self.statuses[1:], 1):
            own = ids[status == k]
            reasons.add(reason, map(self.where, own[:EXAMPLES].tolist()), own.size)
        return reasons

    @property
    def notes(self) -> Reasons:
        """Labels that are trained on, but not as they are written; paths that are odd."""
        notes, counts = self.about_paths(), self.index.counts
        notes.add(COMPOSED, count=counts["not NFC"])
        changed = {"strip": STRIPPED, "map": MAPPED}.get(self.unknown)
        if changed is not None:
            notes.add(changed, count=counts["unknown"])
        return notes

    def about_paths(self) -> Reasons:
        """Paths that lead out of the folder, names in it that were left out."""
        notes, counts = Reasons(), self.index.counts
        if counts["outside"]:
            first = counts["first outside"]
            where = self.lines.where(int(self.index.line_offsets[first]))
            notes.add(OUTSIDE, [f"{where} {formats.shown(self.line(first)[0])}"], counts["outside"])
        notes.add(NOT_LISTED, map(formats.shown, self.odd_names), len(self.odd_names))
        return notes

    def where(self, index: int) -> str:
        """`file:line 'label'` of a sample, for lists of what was left out."""
        offset = int(self.index.line_offsets[index])
        return f"{self.lines.where(offset)} {formats.shown(self.line(index)[1])}"

    def line(self, index: int) -> tuple[str, str]:
        """(path, label) of a sample as the annotation writes them."""
        return self.parse(self.lines.line(int(self.index.line_offsets[index])))

    def written_path(self, index: int) -> str:
        """A sample's path as the annotation writes it: the same wherever the set is moved."""
        return self.line(index)[0].removeprefix("./")

    def written_paths(self) -> Iterator[str]:
        """Those of all samples."""
        return (self.parse(line)[0].removeprefix("./") for line in self.lines.texts())

    def path(self, index: int) -> str:
        """Where a sample's picture lies."""
        return os.path.join(self.root, self.line(index)[0])

    def content(self, index: int) -> str | bytes:
        """A sample's picture as `decode_image` takes it: a path, or the encoded bytes."""
        return self.path(index)

    def identity(self, index: int) -> str:
        """The same: a picture's path is its name for people."""
        return self.path(index)

    def text(self, index: int) -> str:
        """The label, normalized; characters outside the table are still there."""
        return self.charset.normalize(self.line(index)[1])

    def sizes(self, ids: np.ndarray) -> np.ndarray:
        """int32 [m, 2]: heights and widths out of the files' headers, each file opened once.

        A picture that cannot be read has height 0 and width -k, k its place in
        `core.images.REASONS`.
        """
        self._asked_for_sizes = True
        return self._headers(ids)

    def read(self, ids: np.ndarray) -> list[np.ndarray | str]:
        """uint8 [h w channels] a sample, or the reason why it cannot be read."""
        pictures: list[np.ndarray | str] = []
        for i in np.asarray(ids, np.int64).tolist():
            try:
                picture = decode_image(self.content(i), self.channels)
            except UnreadableImage as error:
                pictures.append(error.reason)
                continue
            known = self._headers.known(i) if self._asked_for_sizes else None
            pictures.append(CHANGED if known not in (None, picture.shape[:2]) else picture)
        return pictures

    def require_pictures(self) -> None:
        """Raises UserError, naming the first line, where none of the first pictures exists."""
        ids = range(min(PROBE, len(self)))
        if not any(os.path.exists(self.path(i)) for i in ids):
            where = self.lines.where(int(self.index.line_offsets[0]))
            raise UserError(
                f"{where}: no picture {formats.shown_path(self.path(0))}; paths start at the "
                f"annotation file, or at the folder data.images (--images)"
            )

    def require_case(self) -> None:
        """Raises UserError where more than 1 % of the labels fail on case alone."""
        counts = self.index.counts
        if counts["case"] > 0.01 * len(self):
            share = 100 * counts["case"] / len(self)
            raise UserError(
                f"{self.where(counts['first case'])}: outside the table by its case alone, as "
                f"{share:.1f} % of the labels are; set charset.ignore_case=True or add the letters"
            )
