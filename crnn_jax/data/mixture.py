"""Several sources as one, each with a weight: `a.txt,b.txt*2`."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from crnn_jax.data.plan import generator
from crnn_jax.data.source import Reasons, Source, gather, is_rendered


class MixedSource:
    """Sources of any kind, mixed by weight.

    In an epoch source k gives round(weight * len) samples: whole copies, and for the rest a stretch
    of a seeded permutation that continues from epoch to epoch, so that all its samples come equally
    often. It is `windowed` if a source is, or has a fractional weight; then all samples of its
    sources must be trainable.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float], seed: int = 0) -> None:
        self.sources = tuple(sources)
        self.name = ",".join(
            source.name if weight == 1 else f"{source.name}*{weight:g}"
            for source, weight in zip(sources, weights, strict=True)
        )
        self._seed = seed
        self._counts = [round(w * len(s)) for s, w in zip(sources, weights, strict=True)]
        self._ends = np.cumsum(self._counts)
        # Whether labels and sizes are rendered, not looked up: then the plan's windows are short.
        self.streaming = any(s.windowed for s in sources)
        counts = zip(self._counts, sources, strict=True)
        self.windowed = self.streaming or any(count % max(1, len(s)) for count, s in counts)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _parts(self, ids: np.ndarray) -> Iterator[tuple[np.ndarray, Source, np.ndarray]]:
        """(places in `ids`, source, ids there) of every source among them."""
        epoch, place = np.divmod(np.asarray(ids, np.int64), max(1, len(self)))
        which = np.searchsorted(self._ends, place, side="right")
        for k, source in enumerate(self.sources):
            at = np.flatnonzero(which == k)
            if at.size:
                own = place[at] - (self._ends[k] - self._counts[k])
                yield at, source, self._local(k, source, epoch[at], own)

    def _local(self, k: int, source: Source, epoch: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Ids in source k of its places 0 .. round(weight * len) - 1 in these epochs."""
        count, size = self._counts[k], len(source)
        if source.windowed:  # endless: every epoch has new samples
            return epoch * count + place
        copies, part = divmod(count, size)
        local = place % size
        for j in np.flatnonzero(place >= copies * size).tolist():
            turn, at = divmod(int(epoch[j]) * part + int(place[j]) - copies * size, size)
            local[j] = _permutation(self._seed, k, turn, size)[at]
        return local

    def _filled(self, ids: np.ndarray, answer: np.ndarray, ask: Callable[..., Any]) -> np.ndarray:
        """The answers of the sources to `ask(source, ids there)`, in the order of `ids`."""
        for at, source, local in self._parts(ids):
            answer[at] = ask(source, local)
        return answer

    def rendered(self, ids: np.ndarray) -> np.ndarray:
        """bool [m]: which samples are rendered rather than photographed."""
        return self._filled(ids, np.zeros(len(ids), bool), is_rendered)

    def labels_of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(class ids of these samples' labels, int64 offsets [m + 1])."""
        if not len(ids):  # a host's part of the last batch may be all filler
            return np.zeros(0, np.int32), np.zeros(1, np.int64)
        parts = [(at, *source.labels_of(local)) for at, source, local in self._parts(ids)]
        flat = np.concatenate([np.zeros(0, np.int32), *(flat for _, flat, _ in parts)])
        lengths = np.concatenate([np.diff(offsets) for _, _, offsets in parts])
        order = np.argsort(np.concatenate([at for at, _, _ in parts]))
        return gather(flat.astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]), order)

    @property
    def usable(self) -> np.ndarray:
        """bool [n], of the first epoch."""
        ids, answer = np.arange(len(self)), np.ones(len(self), bool)
        return self._filled(ids, answer, lambda s, own: s.windowed or s.usable[own])

    @functools.cached_property
    def reasons(self) -> Reasons:
        """Of all sources, each sample counted once."""
        return Reasons().update(*(source.reasons for source in self.sources))

    @property
    def notes(self) -> Reasons:
        """What was changed in labels, over all sources."""
        return Reasons().update(*(source.notes for source in self.sources))

    def sizes(self, ids: np.ndarray) -> np.ndarray:
        """int32 [m, 2]: heights and widths in pixels."""
        answer = np.zeros((len(ids), 2), np.int32)
        return self._filled(ids, answer, lambda source, own: source.sizes(own))

    def read(self, ids: np.ndarray) -> list[np.ndarray | str]:
        """uint8 [h w c] for each sample, or the reason why it cannot be read."""
        answer: list[np.ndarray | str] = [""] * len(ids)
        for at, source, local in self._parts(ids):
            for i, image in zip(at.tolist(), source.read(local), strict=True):
                answer[i] = image
        return answer

    def _one(self, index: int) -> tuple[Source, int]:
        ((_, source, local),) = self._parts(np.array([index]))
        return source, int(local[0])

    def text(self, index: int) -> str:
        """The label, normalized."""
        source, local = self._one(index)
        return source.text(local)

    def identity(self, index: int) -> str:
        """The sample's name for people."""
        source, local = self._one(index)
        return source.identity(local)


@functools.lru_cache(maxsize=64)
def _permutation(seed: int, k: int, turn: int, size: int) -> np.ndarray:
    return generator(seed, "mixture", k, turn).permutation(size)
