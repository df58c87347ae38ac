"""What is found out about a stored set once, and cached: labels as class ids, image sizes."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import time
import zipfile
from array import array
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.files import user_cache, whole_file
from crnn_jax.core.images import REASONS, UnreadableImage, image_size
from crnn_jax.data.source import NO_LABEL, STATUS, UNKNOWN_CHARACTER, gather, progress_bar

VERSION = 7  # of the cached files
STAMP = "stamp"  # the array that says what the others were made of
WORTH_SECONDS = 1.0  # of work before its result is cached
SAVE_SECONDS = 15.0  # between caching the sizes known so far
UNKNOWN = -1  # height of an image whose header has not been read
THREADS = 16  # opening a file is mostly waiting where files are far away
TOGETHER = 64  # headers that a thread reads at a time


@dataclasses.dataclass
class Index:
    """What is kept of n samples: about 20 bytes each, and 2 per character."""

    places: np.ndarray  # int64 [n], byte at which a line begins, or the number of a record
    flat: np.ndarray  # class ids of all labels, concatenated; uint16, or int32 for large tables
    label_offsets: np.ndarray  # int64 [n + 1]
    status: np.ndarray  # uint8 [n], index into `STATUS`
    counts: Counter[str]  # labels outside the table: 'unknown', and 'case' by their case alone
    unknown: Counter[str]  # character outside the table -> how often it occurs

    def __len__(self) -> int:
        return len(self.places)

    def part(self, ids: np.ndarray) -> "Index":
        """The index of these samples; counts stay those of the whole."""
        flat, offsets = gather(self.flat, self.label_offsets, ids)
        return Index(self.places[ids], flat, offsets, self.status[ids], self.counts, self.unknown)


def build_index(reader: Any, charset: Charset, unknown: str, what: str) -> Index:
    """Reads and encodes every label once; `what` labels the progress bar."""
    dtype = np.uint16 if charset.num_classes <= 1 << 16 else np.int32
    charset.check_rule(unknown)
    id_of = charset.ids_by_code_point()
    other_case = [ord(c.swapcase()) for c in charset.characters if len(c.swapcase()) == 1]
    places, lengths, status, flat = array("q"), array("q"), bytearray(), bytearray()
    counts: Counter[str] = Counter()
    unknown_characters: Counter[str] = Counter()
    with progress_bar(what, reader.total) as bar:
        for block in reader.blocks():
            # All labels at once, none of which holds a line break.
            text, n = charset.normalize("\n".join(block.labels)), len(block.labels)
            codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
            within = codes != ord("\n")
            label_of, codes = np.cumsum(~within)[within], codes[within]
            ids = id_of[codes]
            is_unknown = ids < 0
            kept, has_unknown = ~is_unknown, np.zeros(n, bool)
            if is_unknown.any():
                met, times = np.unique(codes[is_unknown], return_counts=True)
                unknown_characters.update(dict(zip(map(chr, met), times.tolist(), strict=True)))
                has_unknown[label_of[is_unknown]] = True
                by_case = has_unknown.copy()
                by_case[label_of[is_unknown & ~np.isin(codes, other_case)]] = False
                counts["unknown"] += int(has_unknown.sum())
                counts["case"] += int(by_case.sum())
                if unknown == "map":
                    ids, kept = np.where(is_unknown, charset.unknown_id, ids), within[within]
                elif unknown == "unusable":
                    kept = ~has_unknown[label_of]
            length = np.bincount(label_of[kept], minlength=n)
            outside = has_unknown & (unknown == "unusable")
            own = np.where(outside, STATUS.index(UNKNOWN_CHARACTER), STATUS.index(NO_LABEL))
            told = np.array(block.status, np.uint8)  # what the reader knows comes first
            fault = np.where(told > 0, told, np.where(length > 0, 0, own))
            places.extend(block.places)
            lengths.extend(length.tolist())
            status += fault.astype(np.uint8).tobytes()
            flat += ids[kept].astype(dtype).tobytes()
            bar.update(block.done - bar.n)
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    arrays = np.frombuffer(places, np.int64), np.frombuffer(flat, dtype), offsets
    return Index(*arrays, np.frombuffer(status, np.uint8), counts, unknown_characters)


def cached_index(paths: list[str], stamp: Any, build: Callable[[], Index]) -> Index:
    """`build`'s index, or the one it gave before; arguments as `cached`."""

    def make() -> dict[str, np.ndarray]:
        fields = vars(build())
        counts = json.dumps([fields.pop("counts"), fields.pop("unknown")])
        return {**fields, "counts": np.array(counts)}

    arrays = cached(paths, stamp, make)
    counts, unknown = json.loads(arrays.pop("counts").item())
    return Index(**arrays, counts=Counter(counts), unknown=Counter(unknown))


def cache_paths(data: str, kind: str, key: dict[str, Any]) -> list[str]:
    """Possible places of a cache: next to the data, or else in the user's cache folder."""

    def digest(value: Any) -> str:
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]

    whole = os.path.abspath(data)
    folder, name = (whole, "pictures") if os.path.isdir(whole) else os.path.split(whole)
    return [
        os.path.join(folder, f".{name}.{digest(key)}.crnn-{kind}"),
        os.fspath(user_cache() / f"{name}.{digest([whole, key])}.crnn-{kind}"),
    ]


def cached(
    paths: list[str], stamp: Any, make: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Arrays by name: what `make` gives, or gave before for the same stamp.

    They are kept in `paths` (of `cache_paths`; none to keep nothing) where making them took long.
    """
    found = load(paths, stamp)
    if found is None:
        started = time.monotonic()
        found = make()
        if time.monotonic() - started > WORTH_SECONDS:
            save(paths, stamp, found)
    return found


def save(paths: list[str], stamp: Any, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays to the first of these paths that can be written, if any."""
    made_of = np.array(json.dumps([VERSION, stamp]))
    for path in paths:
        with contextlib.suppress(OSError, UserError):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with whole_file(path, "wb") as file:
                np.savez(file, **{STAMP: made_of}, **arrays)  # type: ignore[arg-type]
            return


def load(paths: list[str], stamp: Any) -> dict[str, np.ndarray] | None:
    """The arrays of the first file with this stamp that is whole."""
    damage = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
    for path in paths:
        with contextlib.suppress(*damage), open(path, "rb") as raw, np.load(raw) as file:
            if file[STAMP].tolist() == json.dumps([VERSION, stamp]):
                return {name: file[name] for name in file.files if name != STAMP}
    return None


class ImageSizes:
    """Heights and widths of n images from their headers: in parallel, and only once.

    They are cached every few seconds and on interruption. An image that cannot be read has
    height 0 and width -k, k its place in `core.images.REASONS`, until the next start.
    """

    def __init__(self, reader: Any, index: Index, cache: list[str]) -> None:
        self._reader, self._places = reader, index.places
        self._total = int(np.count_nonzero(index.status == 0))
        self._cache, self._stamp = cache, reader.stamp()

    @functools.cached_property
    def _sizes(self) -> np.ndarray:
        unknown = np.full((len(self._places), 2), UNKNOWN, np.int32)
        sizes = (load(self._cache, self._stamp) or {"sizes": unknown})["sizes"]
        sizes[sizes[:, 0] == 0] = UNKNOWN  # somebody may have mended them
        return sizes

    def known(self, index: int) -> tuple[int, int] | None:
        """(height, width) if sizes were asked for and the image could be read."""
        height, width = self._sizes[index].tolist() if "_sizes" in vars(self) else (0, 0)
        return (height, width) if height > 0 else None

    def forget(self) -> None:
        """Removes the cached sizes, one of which is wrong: the next start reads headers anew."""
        for path in self._cache:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """int32 [m, 2]: heights and widths in pixels."""
        ids = np.asarray(ids, np.int64)
        missing = ids[self._sizes[ids, 0] == UNKNOWN]
        if missing.size:
            self._read(np.unique(missing))
        return self._sizes[ids]

    def _read(self, ids: np.ndarray) -> None:
        started = saved = time.monotonic()
        known = int(np.count_nonzero(self._sizes[:, 0] != UNKNOWN))
        pieces = np.array_split(ids, -(-ids.size // TOGETHER))
        threads = 1 if len(pieces) == 1 else min(THREADS, 4 * (os.cpu_count() or 1))
        pool = concurrent.futures.ThreadPoolExecutor(threads, "headers")
        try:
            with progress_bar("headers read", max(self._total, known + ids.size), known) as bar:
                for piece, sizes in zip(pieces, pool.map(self._read_some, pieces), strict=True):
                    self._sizes[piece] = sizes
                    bar.update(piece.size)
                    if time.monotonic() - saved > SAVE_SECONDS:
                        save(self._cache, self._stamp, {"sizes": self._sizes})
                        saved = time.monotonic()
        finally:
            pool.shutdown(cancel_futures=True)
            if time.monotonic() - started > WORTH_SECONDS:
                save(self._cache, self._stamp, {"sizes": self._sizes})

    def _read_some(self, ids: np.ndarray) -> np.ndarray:
        sizes = np.empty((ids.size, 2), np.int32)
        for j, i in enumerate(ids.tolist()):
            try:
                sizes[j] = image_size(self._reader.content(int(self._places[i])))
            except UnreadableImage as error:
                sizes[j] = 0, -REASONS.index(error.reason)
        return sizes
