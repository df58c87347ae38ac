"""Parts of a source: for training, for validation, or what is left of it."""

import functools
import os
import re
import time
import zlib
from collections.abc import Callable

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.data.cache import load, save
from crnn_jax.data.files import FileSource
from crnn_jax.data.index import WORTH_SECONDS
from crnn_jax.data.source import Reasons

HASH_SHARE = "10%"  # of the pictures that a split by 'hash' keeps for validation


class Subset:
    """Some samples of a source that is not windowed, numbered anew.

    Args:
        source: the whole.
        ids: integer [m], ids there.
        name: '' takes the source's.
        reasons: why others were left out, to be reported beside those of the members.
    """

    windowed = False

    def __init__(
        self,
        source: "FileSource | Subset",
        ids: np.ndarray,
        name: str = "",
        reasons: Reasons | None = None,
    ) -> None:
        self.source = source
        self.ids = np.asarray(ids, np.int64)
        self.name: str = name or source.name
        self._reasons = reasons

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """(class ids of all labels, int64 offsets [n + 1])."""
        return self.source.labels_of(self.ids)

    def labels_of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(class ids of these samples' labels, int64 offsets [m + 1])."""
        return self.source.labels_of(self.ids[ids])

    @property
    def usable(self) -> np.ndarray:
        """bool [n]: the label can be trained on, as far as the line tells."""
        return self.source.usable[self.ids]

    @property
    def reasons(self) -> Reasons:
        """Why the others cannot: as given, or else counted among the members."""
        if self._reasons is None:
            self._reasons = self.source.reasons_of(self.ids)
        return self._reasons

    def reasons_of(self, ids: np.ndarray) -> Reasons:
        """The same of some members."""
        return self.source.reasons_of(self.ids[ids])

    @property
    def notes(self) -> Reasons:
        """What was changed in labels of the whole, of which these are a part."""
        return self.source.notes

    def sizes(self, ids: np.ndarray) -> np.ndarray:
        """int32 [m, 2]: heights and widths in pixels."""
        return self.source.sizes(self.ids[ids])

    def read(self, ids: np.ndarray) -> list[np.ndarray | str]:
        """uint8 [h w c] a sample, or the reason why it cannot be read."""
        return self.source.read(self.ids[ids])

    def content(self, index: int) -> str | bytes:
        """A sample's picture as `decode_image` takes it."""
        return self.source.content(int(self.ids[index]))

    def text(self, index: int) -> str:
        """The label, normalized."""
        return self.source.text(int(self.ids[index]))

    def identity(self, index: int) -> str:
        """What people call the sample."""
        return self.source.identity(int(self.ids[index]))


def split(source: FileSource, how: str) -> tuple[Subset, Subset]:
    """Parts a source in two.

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
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", how)
    if share and 0 < int(share[1]) < 100:
        held_out = _cached(source, how, functools.partial(_by_hash, source, int(share[1])))
    elif match and int(match[1]) < int(match[2]) > 1:
        fold = functools.partial(_by_name, source, int(match[1]), int(match[2]))
        held_out = _cached(source, how, fold)
    else:
        raise UserError(f"data.split={how!r}: must be 'none', '10%' or 'k/n' as in '0/5'")
    if held_out.all() or not held_out.any():
        raise UserError(
            f"data.split={how!r}: {source.name} has {len(source)} samples, too few to part; "
            f"name a validation file, or 'none'"
        )
    return (
        Subset(source, np.flatnonzero(~held_out), f"{source.name} (training part)"),
        Subset(source, np.flatnonzero(held_out), f"{source.name} (validation part)"),
    )


def _by_hash(source: FileSource, share: int) -> np.ndarray:
    """bool [n]: the paths whose hash falls into so many of a hundred."""
    chosen = (zlib.crc32(path.encode()) % 100 < share for path in source.written_paths())
    return np.fromiter(chosen, bool, len(source))


def _by_name(source: FileSource, fold: int, folds: int) -> np.ndarray:
    """bool [n]: every n-th of the file names in their order, from the k-th on."""
    names = list(map(os.path.basename, source.written_paths()))
    held_out = np.zeros(len(source), bool)
    held_out[sorted(range(len(names)), key=names.__getitem__)[fold::folds]] = True
    return held_out


def _cached(source: FileSource, how: str, part: Callable[[], np.ndarray]) -> np.ndarray:
    """What `part` gives, or gave before: the names of ArrayRecord stand between its pictures."""
    paths, stamp = source.cache_paths("split", {"split": how}), source.stamp()
    if (found := load(paths, stamp)) is not None:
        return found[2]["held_out"]
    started = time.monotonic()
    held_out = part()
    if time.monotonic() - started > WORTH_SECONDS:
        save(paths, stamp, None, {"held_out": held_out})
    return held_out
