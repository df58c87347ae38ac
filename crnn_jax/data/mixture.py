"""Parts of a source, for training or validation; and several sources as one, each with a weight."""

import functools
import os
import re
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.data.files import FileSource
from crnn_jax.data.index import cached
from crnn_jax.data.plan import generator
from crnn_jax.data.source import Reasons, Source, gather, is_rendered

HASH_SHARE = "10%"  # of the pictures that a split by 'hash' keeps for validation


def split(source: FileSource, how: str) -> tuple[FileSource, FileSource]:
    """Divides a source in two.

    Args:
        source: of files; their paths decide.
        how: '10%': a tenth (or another share) of the paths as written, chosen by their hash, so
            that a picture stays on its side when others are added; 'hash' is '10%'; 'k/n':
            sorted by file name every n-th from the k-th on.

    Returns:
        (for training, for validation).

    Raises:
        UserError: `how` is neither, or one part would be empty.
    """
    share = re.fullmatch(r"([0-9]+)%", HASH_SHARE if how == "hash" else how)
    fold = re.fullmatch(r"([0-9]+)/([0-9]+)", how)
    if not (share and 0 < int(share[1]) < 100) and not (fold and int(fold[1]) < int(fold[2]) > 1):
        raise UserError(f"data.split={how!r}: must be 'none', '10%' or 'k/n' as in '0/5'")

    def choose() -> tuple[None, dict[str, np.ndarray]]:
        paths = source.written_paths()
        if share:
            chosen = (zlib.crc32(path.encode()) % 100 < int(share[1]) for path in paths)
            return None, {"held_out": np.fromiter(chosen, bool, len(source))}
        assert fold is not None
        names = [os.path.basename(path) for path in paths]
        order = sorted(range(len(names)), key=names.__getitem__)
        return None, {"held_out": np.isin(range(len(names)), order[int(fold[1]) :: int(fold[2])])}

    cache = source.cache_paths("split", {"split": how})
    held_out = cached(cache, source.reader.stamp(), choose)[1]["held_out"]
    if held_out.all() or not held_out.any():
        raise UserError(
            f"data.split={how!r}: {source.name} has {len(source)} samples, too few to part; "
            f"name a validation file, or 'none'"
        )
    return (
        source.part(np.flatnonzero(~held_out), f"{source.name} (training part)"),
        source.part(np.flatnonzero(held_out), f"{source.name} (validation part)"),
    )


class MixedSource:
    """Sources of any kind, mixed by weight: `a.txt,b.txt*2`.

    In an epoch source k gives round(weight * len) samples: whole copies, and for the rest a stretch
    of a seeded permutation that goes on from epoch to epoch, so that all its samples come equally
    often. Ids of a mixture tell the epoch where that matters (`windowed`).

    Args:
        sources: at least one; where any is windowed or has a fractional weight the mixture is
            windowed too, and should be given samples that can all be trained on.
        weights: > 0, one for each source.
        seed: of the fractional parts.

    Attributes:
        streaming: labels and sizes are rendered, not looked up, so that windows of the
            plan are short.

    Raises:
        ValueError: no source, or weights that do not fit.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float], seed: int = 0) -> None:
        if not sources or len(sources) != len(weights) or min(weights) <= 0:
            raise ValueError(f"{len(sources)} sources with weights {list(weights)}")
        self.sources = tuple(sources)
        self.name = ",".join(
            source.name if weight == 1 else f"{source.name}*{weight:g}"
            for source, weight in zip(sources, weights, strict=True)
        )
        self._seed = seed
        self._counts = [round(w * len(s)) for s, w in zip(sources, weights, strict=True)]
        self._ends = np.cumsum(self._counts)
        self.windowed = any(s.windowed for s in sources) or any(
            count % max(1, len(s)) for s, count in zip(sources, self._counts, strict=True)
        )
        self.streaming = any(getattr(s, "streaming", s.windowed) for s in sources)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _parts(self, ids: np.ndarray) -> Iterator[tuple[np.ndarray, Source, np.ndarray]]:
        """(places in `ids`, source, ids there) of every source that is asked for."""
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
        if source.windowed:  # has samples without end: every place of every epoch a new one
            return epoch * count + place
        copies, part = divmod(count, size)
        local = place % size
        for j in np.flatnonzero(place >= copies * size).tolist():
            turn, at = divmod(int(epoch[j]) * part + int(place[j]) - copies * size, size)
            local[j] = _permutation(self._seed, k, turn, size)[at]
        return local

    def rendered(self, ids: np.ndarray) -> np.ndarray:
        """bool [m]: which samples are rendered rather than photographed."""
        answer = np.zeros(len(ids), bool)
        for at, source, local in self._parts(ids):
            answer[at] = is_rendered(source, local)
        return answer

    def labels_of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(class ids of these samples' labels, int64 offsets [m + 1])."""
        parts = [(at, *source.labels_of(local)) for at, source, local in self._parts(ids)]
        flat = np.concatenate([np.zeros(0, np.int32), *(flat for _, flat, _ in parts)])
        lengths = np.concatenate([np.diff(offsets) for _, _, offsets in parts])
        order = np.argsort(np.concatenate([at for at, _, _ in parts]))
        return gather(flat.astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]), order)

    @property
    def usable(self) -> np.ndarray:
        """bool [n], of the first epoch."""
        answer = np.ones(len(self), bool)
        for at, source, local in self._parts(np.arange(len(self))):
            if not source.windowed:
                answer[at] = source.usable[local]
        return answer

    @functools.cached_property
    def reasons(self) -> Reasons:
        """Of all sources, each sample counted once."""
        total = Reasons()
        for source in self.sources:
            total.update(source.reasons)
        return total

    @property
    def notes(self) -> Reasons:
        """What was changed in labels, over all sources."""
        total = Reasons()
        for source in self.sources:
            total.update(source.notes)
        return total

    def sizes(self, ids: np.ndarray) -> np.ndarray:
        """int32 [m, 2]: heights and widths in pixels."""
        answer = np.zeros((len(ids), 2), np.int32)
        for at, source, local in self._parts(ids):
            answer[at] = source.sizes(local)
        return answer

    def read(self, ids: np.ndarray) -> list[np.ndarray | str]:
        """uint8 [h w c] for each sample, or the reason why it cannot be read."""
        answer: list[np.ndarray | str] = [""] * len(ids)
        for at, source, local in self._parts(ids):
            for i, picture in zip(at.tolist(), source.read(local), strict=True):
                answer[i] = picture
        return answer

    def locate(self, index: int) -> tuple[Source, int]:
        """(source, the sample's id there)."""
        ((_, source, local),) = self._parts(np.array([index]))
        return source, int(local[0])

    def text(self, index: int) -> str:
        """The label, normalized."""
        source, local = self.locate(index)
        return source.text(local)

    def identity(self, index: int) -> str:
        """The sample's name for people."""
        source, local = self.locate(index)
        return source.identity(local)


@functools.lru_cache(maxsize=8)
def _permutation(seed: int, k: int, turn: int, size: int) -> np.ndarray:
    return generator(seed, "mixture", k, turn).permutation(size)
