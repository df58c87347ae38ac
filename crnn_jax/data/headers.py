"""Heights and widths of pictures out of their headers: in parallel, and only once.

What is known is written down every few seconds and when the reading is interrupted, so that the
next start goes on from there. Pictures that could not be read are asked for anew at each start:
somebody may have mended them.
"""

import concurrent.futures
import os
import time
from collections.abc import Callable

import numpy as np

from crnn_jax.core.images import REASONS, UnreadableImage, image_size
from crnn_jax.data.cache import load, save
from crnn_jax.data.progress import Progress

UNKNOWN = -1
THREADS = 16  # opening a file is mostly waiting where files are far away
TOGETHER = 64  # pictures a thread takes at a time
SAVE_SECONDS = 15.0  # between writing down what is known
WORTH_SECONDS = 1.0  # of reading before anything is written at all


class Headers:
    """Sizes of n pictures.

    Args:
        content_of: id -> the picture's path, or its bytes.
        count: n.
        expected: how many of them will be asked for, for the progress line.
        cache: paths of `cache_paths`; none keeps nothing.
        stamp: of the annotation.
    """

    def __init__(
        self,
        content_of: Callable[[int], str | bytes],
        count: int,
        expected: int,
        cache: list[str],
        stamp: object,
    ) -> None:
        self._content_of = content_of
        self._cache, self._stamp = cache, stamp
        self._sizes = np.full((count, 2), UNKNOWN, np.int32)
        found = load(cache, stamp)
        if found is not None and found[2]["sizes"].shape == self._sizes.shape:
            self._sizes[:] = found[2]["sizes"]
            self._sizes[self._sizes[:, 0] == 0] = UNKNOWN
        self._known = int(np.count_nonzero(self._sizes[:, 0] != UNKNOWN))
        self._progress = Progress("headers read", expected)

    def known(self, index: int) -> tuple[int, int] | None:
        """(height, width) where it is known and the picture could be read."""
        height, width = self._sizes[index].tolist()
        return (height, width) if height > 0 else None

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """int32 [m, 2]; (0, -k) for a picture that cannot be read, k its place in `REASONS`."""
        ids = np.asarray(ids, np.int64)
        missing = ids[self._sizes[ids, 0] == UNKNOWN]
        if missing.size:
            self._read(np.unique(missing))
        return self._sizes[ids]

    def _read(self, ids: np.ndarray) -> None:
        started = saved = time.monotonic()
        self._progress(self._known)
        pieces = np.array_split(ids, -(-ids.size // TOGETHER))
        threads = 1 if len(pieces) == 1 else min(THREADS, 4 * (os.cpu_count() or 1))
        pool = concurrent.futures.ThreadPoolExecutor(threads, "headers")
        try:
            for piece, sizes in zip(pieces, pool.map(self._read_some, pieces), strict=True):
                self._sizes[piece] = sizes
                self._known += piece.size
                self._progress(self._known)
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
        finally:
            pool.shutdown(cancel_futures=True)
            if time.monotonic() - started > WORTH_SECONDS:
                self._save()

    def _read_some(self, ids: np.ndarray) -> np.ndarray:
        sizes = np.empty((ids.size, 2), np.int32)
        for j, i in enumerate(ids.tolist()):
            try:
                sizes[j] = image_size(self._content_of(i))
            except UnreadableImage as error:
                sizes[j] = 0, -REASONS.index(error.reason)
        return sizes

    def _save(self) -> None:
        if self._cache:
            save(self._cache, self._stamp, None, {"sizes": self._sizes})
