"""Which samples form which batch: a pure function of (seed, epoch, window).

Every sample goes to the smallest bucket that holds its width. The samples of a window are put in
random order and cut into full batches bucket by bucket; the rest is cut too, from narrow buckets to
wide ones, the last batch filled with masked rows; then the window's batches are shuffled. A window
of N samples gives exactly ceil(N / batch_size) batches: a run resumes from its step alone.
"""

import dataclasses
import functools
import hashlib
import threading
import zlib
from collections.abc import Sequence

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.geometry import num_frames
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.source import CHUNK, Source, resized_widths, trainable

WINDOW = 1 << 20  # samples
RENDERED_BATCHES = 64  # of a window of rendered words
PROBES = 32  # images whose pixels are compared between hosts


def generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """Random numbers from these arguments alone (indices >= 0), equal on every machine."""
    words = (seed & 0xFFFFFFFFFFFFFFFF, zlib.crc32(purpose.encode()), *indices)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


@dataclasses.dataclass(frozen=True)
class PlanRow:
    """One planned batch."""

    ids: np.ndarray  # int64 [b], -1 = masked filler
    usable: np.ndarray  # bool [b], the label can be trained on; False for filler
    width: int  # of the batch in pixels
    label_axis: int  # its length
    epoch: int  # counted from 0

    def part(self, index: int, count: int) -> "PlanRow":
        """The contiguous part of host `index` of `count`; together they are the row."""
        if len(self.ids) % count:
            raise ValueError(f"a batch of {len(self.ids)} cannot be cut for {count} hosts")
        size = len(self.ids) // count
        own = slice(index * size, (index + 1) * size)
        return dataclasses.replace(self, ids=self.ids[own], usable=self.usable[own])


class Plan:
    """The batches of all epochs.

    Args:
        batch_size: rows of a batch, over all hosts and devices.
        boundaries: widths in pixels of the batches (buckets) where images keep their own width;
            the preprocessing's max_width is added where it is missing.
        max_label_length: longer labels are not trained on; 0 = what the width allows.
        shuffle: False gives the source's order within each bucket, buckets from narrow to wide.
        window: samples that are mixed together, at most; a windowed source has its own.
        all: every sample has its place, also those that cannot be trained on (evaluation).
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        boundaries: Sequence[int] = (),
        max_label_length: int = 0,
        preprocessing: Preprocessing,
        geometry: str,
        seed: int = 0,
        shuffle: bool = True,
        window: int = WINDOW,
        all: bool = False,  # noqa: A002
    ) -> None:
        self.source, self.preprocessing, self.geometry = source, preprocessing, geometry
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self.widths = bucket_widths(boundaries, preprocessing)  # in pixels, ascending
        self._max_label_length = 0 if all else max_label_length
        self._usable: np.ndarray | None = None
        self._ids = np.zeros(0, np.int32)  # of the samples that have a place; not where windowed
        self.num_samples = len(source)  # an epoch
        self.reasons = source.reasons  # why other samples cannot be trained on
        if source.windowed and getattr(source, "streaming", True):
            window = RENDERED_BATCHES * batch_size
        elif not source.windowed:
            self._usable, self.reasons = trainable(
                source, preprocessing, geometry, max_label_length
            )
            chosen = np.arange(len(source)) if all else np.flatnonzero(self._usable)
            self._ids = chosen.astype(np.int32)
            self.num_samples = chosen.size
            if not self.num_samples:
                why = "; ".join(self.reasons.lines())
                raise UserError(f"{source.name}: no sample can be trained on ({why})")
        self._window_batches = max(1, window // batch_size)
        self.steps_per_epoch = -(-self.num_samples // batch_size)
        self._lock = threading.Lock()
        self._order = functools.lru_cache(maxsize=1)(self._make_order)
        self._batches = functools.lru_cache(maxsize=2)(self._make_batches)

    def row(self, step: int) -> PlanRow:
        """The batch of a step, counted from 0 over all epochs."""
        if step < 0 or not self.steps_per_epoch:
            raise IndexError(f"no step {step} in a plan of {self.num_samples} samples")
        epoch, place, ids, widths = self._window_of(step)
        own, width = ids[place], int(widths[place])
        usable = own >= 0
        if self._usable is not None:
            usable = usable & self._usable[own]
        return PlanRow(own, usable, width, self.label_axis(width), epoch)

    def upcoming_widths(self, step: int, stop: int) -> list[int]:
        """Widths of the batches of steps step .. stop - 1 of this window, each once, in order."""
        _, place, _, widths = self._window_of(step)
        return list(dict.fromkeys(widths[place : place + stop - step].tolist()))

    def _window_of(self, step: int) -> tuple[int, int, np.ndarray, np.ndarray]:
        """(epoch, place in the window, the window's batches as `_make_batches`)."""
        epoch, offset = divmod(step, self.steps_per_epoch)
        window, place = divmod(offset, self._window_batches)
        with self._lock:
            return epoch, place, *self._batches(epoch, window)

    def label_axis(self, width: int) -> int:
        """Length of the label axis of all batches of this width: another would recompile."""
        frames = max(1, num_frames(width, self.geometry))
        return min(frames, self._max_label_length) if self._max_label_length else frames

    def fingerprint(self) -> str:
        """SHA-256 over all labels, widths and a few images: hosts that train together compare."""
        sizes = (self.num_samples, self.batch_size, self.widths)
        order = (self.seed, self.shuffle, self._window_batches, self.source.windowed)
        digest = hashlib.sha256(repr(sizes + order).encode())
        for source in getattr(self.source, "sources", (self.source,)):  # of a mixture each
            if hasattr(source, "fingerprint"):
                digest.update(source.fingerprint().encode())
                continue
            all_ids = self._ids if source is self.source else np.arange(len(source))
            for begin in range(0, all_ids.size, CHUNK):
                ids = all_ids[begin : begin + CHUNK]
                for array in (ids, self._resized(ids, source), *source.labels_of(ids)):
                    digest.update(array.astype(np.int64).tobytes())
            probes = all_ids[np.linspace(0, all_ids.size - 1, PROBES).astype(np.int64)]
            for image in source.read(probes):
                digest.update(image.encode() if isinstance(image, str) else image.tobytes())
        return digest.hexdigest()

    def padding_share(self, epoch: int = 0) -> float:
        """Share of an epoch's pixels that is padding, masked rows included."""
        real = total = 0
        for window in range(-(-self.steps_per_epoch // self._window_batches)):
            with self._lock:
                ids, widths = self._batches(epoch, window)
            total += int(widths.sum()) * self.batch_size
            real += int(self._resized(ids[ids >= 0]).sum())
        return 1 - real / total

    def _resized(self, ids: np.ndarray, source: Source | None = None) -> np.ndarray:
        """int64 [m], width in pixels of each image in its batch."""
        if not self.preprocessing.free_width:
            return np.full(ids.size, self.preprocessing.width, np.int64)
        return resized_widths((source or self.source).sizes(ids), self.preprocessing)

    def _make_order(self, epoch: int) -> np.ndarray:
        """int64 or int32 [num_samples], the ids of an epoch in the order of its windows."""
        if not self.shuffle:
            order = np.arange(self.num_samples)
        else:
            order = generator(self.seed, "order", epoch).permutation(self.num_samples)
        if self.source.windowed:
            return order + np.int64(epoch) * self.num_samples
        return self._ids[order]

    def _make_batches(self, epoch: int, window: int) -> tuple[np.ndarray, np.ndarray]:
        """(int64 [batches, b] ids with -1 for filler, int64 [batches] widths) of a window."""
        size = self._window_batches * self.batch_size
        ids = self._order(epoch)[window * size : (window + 1) * size].astype(np.int64)
        resized = self._resized(ids)
        bucket = np.searchsorted(self.widths, resized)
        rows, left = [], []
        for k in range(len(self.widths)):
            members = np.flatnonzero(bucket == k)
            full = members.size - members.size % self.batch_size
            rows.append(members[:full].reshape(-1, self.batch_size))
            left.append(members[full:])
        rest = np.concatenate(left)  # from narrow to wide, which pads least
        filler = np.full(-rest.size % self.batch_size, -1)
        rows.append(np.concatenate([rest, filler]).reshape(-1, self.batch_size))
        members = np.concatenate(rows)
        # Filler counts as the narrowest: a batch is as wide as its widest real member.
        widest = np.where(members >= 0, bucket[members], 0).max(axis=1)
        table = np.where(members >= 0, ids[members], -1)
        widths = np.asarray(self.widths)[widest]
        if self.shuffle:
            places = generator(self.seed, "batches", epoch, window).permutation(len(table))
            table, widths = table[places], widths[places]
        return table, widths


def bucket_widths(boundaries: Sequence[int], preprocessing: Preprocessing) -> tuple[int, ...]:
    """The widths in pixels that batches may have: one fixed width, or boundaries and max_width."""
    if not preprocessing.free_width:
        return (preprocessing.width,)
    last = preprocessing.max_width
    for width in boundaries:
        if not (isinstance(width, int) and 0 < width <= last):
            limit = f"preprocessing.max_width={last}"
            raise UserError(f"data.bucket_boundaries: {width} px; must lie between 1 and {limit}")
    return tuple(sorted({*boundaries, last}))
