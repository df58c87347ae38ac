"""Several sources as one, each with a weight: `a.txt,b.txt*2`.

Of an epoch source k gives round(weight * len) samples: whole copies, and for the rest a stretch
of a seeded permutation that goes on from epoch to epoch, so that all its samples come equally
often. Ids of a mixture tell the epoch where that matters (`windowed`).
"""

import functools
from collections.abc import Sequence

import numpy as np

from crnn_jax.data.randomness import generator
from crnn_jax.data.source import Reasons, Source, is_rendered, merged


class MixedSource:
    """Sources of any kind, mixed by weight.

    Args:
        sources: at least one; where any is windowed or has a fractional weight the mixture is
            windowed too, and should be given samples that can all be trained on.
        weights: > 0, one a source.
        seed: of the fractional parts.

    Raises:
        ValueError: no source, or weights that do not fit.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float], seed: int = 0) -> None:
        if not sources or len(sources) != len(weights) or min(weights) <= 0:
            raise ValueError(f"{len(sources)} sources with weights {list(weights)}")
        self.sources = tuple(sources)
        self.weights = tuple(weights)
        self.name = ",".join(
            source.name if weight == 1 else f"{source.name}*{weight:g}"
            for source, weight in zip(sources, weights, strict=True)
        )
        self._seed = seed
        counts = [round(w * len(s)) for s, w in zip(sources, weights, strict=True)]
        self._ends = np.cumsum(counts)
        self.windowed = any(s.windowed for s in sources) or any(
            count % max(1, len(s)) for s, count in zip(sources, counts, strict=True)
        )
        # Labels and sizes of files are looked up: no need for the short windows of rendered words.
        self.drawn = any(getattr(s, "drawn", s.windowed) for s in sources)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _starts(self) -> np.ndarray:
        return np.concatenate(([0], self._ends[:-1]))

    def locate(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(which source int64 [m], the sample's id there int64 [m])."""
        ids = np.asarray(ids, np.int64)
        epoch, place = np.divmod(ids, max(1, len(self)))
        which = np.searchsorted(self._ends, place, side="right")
        local = place - self._starts()[which]
        for k, source in enumerate(self.sources):
            own = np.flatnonzero(which == k)
            if own.size:
                local[own] = self._local(k, source, epoch[own], local[own])
        return which, local

    def _local(self, k: int, source: Source, epoch: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Ids in source k of the places 0 .. round(weight * len) - 1 of these epochs."""
        count = int(self._ends[k] - self._starts()[k])
        if source.windowed:  # has samples without end: every place of every epoch a new one
            return epoch * count + place
        copies, part = divmod(count, len(source))
        local = place % len(source)
        for j in np.flatnonzero(place >= copies * len(source)).tolist():
            turn, at = divmod(
                int(epoch[j]) * part + int(place[j]) - copies * len(source), len(source)
            )
            local[j] = _permutation(self._seed, k, turn, len(source))[at]
        return local

    def rendered(self, ids: np.ndarray) -> np.ndarray:
        """bool [m]: which samples are drawn rather than photographed."""
        answer = np.zeros(len(ids), bool)
        for own, source, local in self._parts(ids):
            answer[own] = is_rendered(source, local)
        return answer

    def _parts(self, ids: np.ndarray):  # type: ignore[no-untyped-def]
        """(places in `ids`, source, ids there) of every source that is asked for."""
        which, local = self.locate(ids)
        for k, source in enumerate(self.sources):
            own = np.flatnonzero(which == k)
            if own.size:
                yield own, source, local[own]

    @property
    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """(class ids of all labels of the first epoch, int64 offsets [n + 1])."""
        return self.labels_of(np.arange(len(self)))

    def labels_of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(class ids of these samples' labels, int64 offsets [m + 1])."""
        lengths = np.zeros(len(ids), np.int64)
        parts = []
        for own, source, local in self._parts(ids):
            flat, offsets = source.labels_of(local)
            lengths[own] = np.diff(offsets)
            parts.append((own, flat, offsets))
        ends = np.concatenate(([0], np.cumsum(lengths)))
        answer = np.zeros(ends[-1], np.int32)
        for own, flat, offsets in parts:
            size = np.diff(offsets)
            at = np.arange(offsets[-1]) + np.repeat(ends[own] - offsets[:-1], size)
            answer[at] = flat
        return answer, ends

    @property
    def usable(self) -> np.ndarray:
        """bool [n], of the first epoch."""
        which, local = self.locate(np.arange(len(self)))
        answer = np.ones(len(self), bool)
        for k, source in enumerate(self.sources):
            if not source.windowed:
                answer[which == k] = source.usable[local[which == k]]
        return answer

    @functools.cached_property
    def reasons(self) -> Reasons:
        """Of all sources, each sample counted once."""
        return merged(source.reasons for source in self.sources)

    @property
    def notes(self) -> Reasons:
        """What was changed in labels, over all sources."""
        return merged(source.notes for source in self.sources if not source.windowed)

    def sizes(self, ids: np.ndarray) -> np.ndarray:
        """int32 [m, 2]: heights and widths in pixels."""
        answer = np.zeros((len(ids), 2), np.int32)
        for own, source, local in self._parts(ids):
            answer[own] = source.sizes(local)
        return answer

    def read(self, ids: np.ndarray) -> list[np.ndarray | str]:
        """uint8 [h w c] a sample, or the reason why it cannot be read."""
        answer: list[np.ndarray | str] = [""] * len(ids)
        for own, source, local in self._parts(ids):
            for i, picture in zip(own.tolist(), source.read(local), strict=True):
                answer[i] = picture
        return answer

    def _one(self, index: int) -> tuple[Source, int]:
        which, local = self.locate(np.array([index]))
        return self.sources[int(which[0])], int(local[0])

    def text(self, index: int) -> str:
        """The label, normalized."""
        source, local = self._one(index)
        return source.text(local)

    def identity(self, index: int) -> str:
        """What people call the sample."""
        source, local = self._one(index)
        return source.identity(local)


@functools.lru_cache(maxsize=8)
def _permutation(seed: int, k: int, turn: int, size: int) -> np.ndarray:
    return generator(seed, "mixture", k, turn).permutation(size)
