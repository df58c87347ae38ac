"""Labelled images stored on disk: an annotation file, a folder, an LMDB, ArrayRecord shards."""

import copy
import functools
import os
import re
import zlib
from typing import Any

import numpy as np

from crnn_jax.core.charset import Charset, nfc
from crnn_jax.core.errors import UserError, shown, shown_path
from crnn_jax.core.images import MISSING, UnreadableImage, decode_image, image_size
from crnn_jax.data.annotations import LEFT_OUT, Annotation
from crnn_jax.data.index import ImageSizes, build_index, cache_paths, cached, cached_index
from crnn_jax.data.source import CHANGED, EXAMPLES, STATUS, Reasons, gather

CHANGED_LABEL = {
    "strip": "label without its unknown characters (data.unknown='strip')",
    "map": "label with <UNK> for its unknown characters (data.unknown='map')",
}
NUMBERED = "number in the file name left out of the label"
FIRST_IMAGES = 20  # looked for before a wrong folder is reported


class FileSource:
    """The samples of a stored set, by an index of their labels.

    Args:
        path: of the annotation file, of a folder whose file names are the labels, of an LMDB or of
            ArrayRecord shards; FOLDER/SPLIT for shards of several splits.
        format, images: as `Annotation`'s.
        unknown: rule for characters outside the table (`Charset.encode`).
        channels: of the images that `read` returns, 1 or 3.
        cache: keep the index and the sizes on disk if finding them took long.
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
        from crnn_jax.data.records import open_records  # stores are rare

        reader = open_records(self.name) or Annotation(self.name, format, images)
        self.reader, self.format = reader, reader.format
        self.charset, self.unknown, self.channels = charset, unknown, channels
        # A user's parser may change without its name changing: nothing is kept.
        self._cache = cache and ":" not in self.format
        key = {"charset": charset.to_metadata(), "unknown": unknown, "asked": format}
        self.index = cached_index(
            self._cache_paths("index", key),
            reader.stamp(),
            lambda: build_index(reader, charset, unknown, f"{self.name}: labels indexed"),
        )
        if not len(self):
            raise UserError(f"{self.name}: no samples in this {self.format} set")
        paths = self._cache_paths("sizes", {"root": os.path.abspath(reader.root)})
        self._sizes = ImageSizes(reader, self.index, paths)
        self._ids: np.ndarray | None = None  # of a part, in the whole

    def part(self, ids: np.ndarray, name: str = "", reasons: Reasons | None = None) -> "FileSource":
        """The samples `ids`, renumbered; `reasons` why others were left out, to be reported."""
        part = copy.copy(self)
        part.name = name or self.name
        part.index = self.index.part(ids)
        part._ids = ids if self._ids is None else self._ids[ids]
        vars(part).pop("reasons", None)
        if reasons is not None:
            part.reasons = reasons
        return part

    def split(self, how: str) -> tuple["FileSource", "FileSource"]:
        """The samples in two parts, for training and for validation.

        '10%' holds out a tenth (or another share) of the paths as written, by their hash, so that
        an image stays on its side when others are added; 'hash' is '10%'. '10% by label' takes the
        labels' hash, so that no label stands on both sides, and '10% by REGEX' that of what the
        regular expression finds in the path (its first group, if it has one): lines of one page
        stay together. 'k/n' holds out, sorted by file name, every n-th from the k-th on.
        """
        share = re.fullmatch(r"([1-9][0-9]?)%(?: by (.+))?", "10%" if how == "hash" else how)
        fold = re.fullmatch(r"([0-9]+)/([0-9]+)", how)
        if not share and not (fold and int(fold[1]) < int(fold[2]) > 1):
            wanted = "'10%', '10% by label', '10% by REGEX' or 'k/n' as in '0/5'"
            raise UserError(f"data.split={how!r}: must be {wanted}")
        try:
            pattern = re.compile(share[2] or "" if share else "")
        except re.error as error:
            raise UserError(f"data.split={how!r}: not a regular expression: {error}") from None

        def group(i: int) -> str:
            """Samples of one group are on the same side."""
            path, label = self.line(i)
            path = path.removeprefix("./")
            if share and share[2] == "label":
                return nfc(label).casefold()
            found = pattern.search(path)
            return found[min(1, pattern.groups)] or path if found else path

        def choose() -> dict[str, np.ndarray]:
            if share:
                groups = map(group, range(len(self)))
                chosen = (zlib.crc32(g.encode()) % 100 < int(share[1]) for g in groups)
                return {"held_out": np.fromiter(chosen, bool, len(self))}
            assert fold is not None
            names = [os.path.basename(self.line(i)[0]) for i in range(len(self))]
            order = sorted(range(len(names)), key=names.__getitem__)
            return {"held_out": np.isin(range(len(names)), order[int(fold[1]) :: int(fold[2])])}

        paths = self._cache_paths("split", {"split": how})
        held_out = cached(paths, self.reader.stamp(), choose)["held_out"]
        if held_out.all() or not held_out.any():
            raise UserError(
                f"data.split={how!r}: {self.name} has {len(self)} samples, too few to part; "
                f"name a validation file, or 'none'"
            )
        return (
            self.part(np.flatnonzero(~held_out), f"{self.name} (training part)"),
            self.part(np.flatnonzero(held_out), f"{self.name} (validation part)"),
        )

    def _cache_paths(self, kind: str, key: dict[str, Any]) -> list[str]:
        """Where something found out about the samples may be cached, if at all."""
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
        reasons = Reasons()
        for k, reason in enumerate(STATUS[1:], 1):
            ids = np.flatnonzero(self.index.status == k)
            reasons.add(reason, map(self.where, ids[:EXAMPLES].tolist()), ids.size)
        return reasons

    @property
    def notes(self) -> Reasons:
        """Labels that are trained on, but not as written; names that were left out."""
        notes, left_out = Reasons(), self.reader.left_out
        if self.unknown != "unusable":
            notes.add(CHANGED_LABEL[self.unknown], count=self.index.counts["unknown"])
        notes.add(LEFT_OUT, map(shown, left_out), len(left_out))
        by_name = self.format == "name" or (self.format == "mjsynth" and os.path.isdir(self.name))
        if isinstance(self.reader, Annotation) and by_name:
            ids = np.flatnonzero(np.isin(self.index.places, self.reader.numbered()))
            notes.add(NUMBERED, map(self.where, ids.tolist()), ids.size)
        return notes

    def where(self, index: int) -> str:
        """`file:line 'label'` of a sample, for lists of what was left out."""
        return f"{self.reader.where(self._place(index))} {shown(self.line(index)[1])}"

    def _place(self, index: int) -> int:
        return int(self.index.places[index])

    def line(self, index: int) -> tuple[str, str]:
        """(path, label) of a sample as the annotation writes them."""
        return self.reader.line(self._place(index))

    def identity(self, index: int) -> str:
        """Where a sample's image lies."""
        return os.path.join(self.reader.root, self.line(index)[0])

    def content(self, index: int) -> str | bytes:
        """A sample's image as `decode_image` takes it: a path, or the encoded bytes."""
        return self.reader.content(self._place(index))

    def text(self, index: int) -> str:
        """The label, normalized; characters outside the table are still there."""
        return self.charset.normalize(self.line(index)[1])

    def sizes(self, ids: np.ndarray) -> np.ndarray:
        """int32 [m, 2]: heights and widths out of the images' headers, each read once."""
        return self._sizes(ids if self._ids is None else self._ids[ids])

    def read(self, ids: np.ndarray) -> list[np.ndarray | str]:
        """uint8 [h w channels] for each sample, or the reason why it cannot be read."""
        found: list[np.ndarray | str] = []
        for i in np.asarray(ids).tolist():
            try:
                image = decode_image(self.content(i), self.channels)
            except UnreadableImage as error:
                found.append(error.reason)
                continue
            known = self._sizes.known(i if self._ids is None else int(self._ids[i]))
            changed = known not in (None, image.shape[:2])
            if changed:
                self._sizes.forget()
            found.append(CHANGED if changed else image)
        return found

    def require_images(self) -> None:
        """Raises UserError, naming the first, where none of the first images is there."""
        for i in range(min(FIRST_IMAGES, len(self))):
            try:
                image_size(self.content(i))
            except UnreadableImage as error:
                if error.reason == MISSING:
                    continue
            return
        where, path = self.reader.where(self._place(0)), shown_path(self.identity(0))
        raise UserError(f"{where}: no image {path}{self.reader.no_image}")

    def other_case(self) -> str:
        """Characters of the labels that the table has in their other case only."""
        known = self.charset.characters
        return "".join(c for c in self.index.unknown if c.swapcase() in known)

    @property
    def fails_on_case(self) -> bool:
        """More than 1 % of the labels are outside the table by case alone."""
        return self.index.counts["case"] > 0.01 * len(self)

    def require_case(self) -> None:
        """Raises UserError where `fails_on_case`."""
        if self.fails_on_case:
            share = self.index.counts["case"] / len(self)
            raise UserError(
                f"{self.name}: {100 * share:.1f} % of the labels are outside the table by case "
                f"alone ({self.other_case()}); set charset.ignore_case=True or add the letters"
            )
