"""Which samples can be trained on, and why the others cannot."""

import numpy as np

from crnn_jax.core import images
from crnn_jax.core.geometry import frames_needed_flat, num_frames
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.formats import shown, shown_path
from crnn_jax.data.source import EXAMPLES, TOO_LONG, TOO_LONG_FOR_WIDTH, Reasons, Source

CHUNK = 1 << 18  # samples looked at together: a bound for memory, not a setting


def trainable(
    source: Source,
    preprocessing: Preprocessing,
    geometry: str,
    max_label_length: int = 0,
    *,
    headers: bool = False,
) -> tuple[np.ndarray, Reasons]:
    """Looks at every sample of a source that is not windowed.

    Where pictures keep their own width every header is read (once); with one fixed width none is.

    Args:
        source: the samples.
        preprocessing: tells the width that a picture is resized to.
        geometry: tells the frames of a width.
        max_label_length: longer labels are left out; 0 = no bound.
        headers: read them with a fixed width too, to find pictures that cannot be read.

    Returns:
        (bool [n], counts by reason of those that are False).
    """
    usable = source.usable.copy()
    reasons = Reasons()
    reasons.update(source.reasons)
    for begin in range(0, len(source), CHUNK):
        ids = begin + np.flatnonzero(usable[begin : begin + CHUNK])
        flat, offsets = source.labels_of(ids)
        good = np.ones(ids.size, bool)

        def leave_out(bad: np.ndarray, reason: str, ids=ids, good=good) -> None:  # type: ignore[no-untyped-def]
            bad = bad & good
            good[bad] = False
            named = ids[bad][:EXAMPLES].tolist()
            reasons.add(reason, (described(source, i) for i in named), int(bad.sum()))

        width = np.full(ids.size, preprocessing.width, np.int64)
        if preprocessing.free_width or headers:
            sizes = source.sizes(ids)
            for k in np.unique(-sizes[sizes[:, 0] == 0, 1]).tolist():
                unreadable = (sizes[:, 0] == 0) & (sizes[:, 1] == -k)
                leave_out(unreadable, images.REASONS[k])
            width = resized_widths(sizes, preprocessing)  # of those that can be read
        if max_label_length:
            leave_out(np.diff(offsets) > max_label_length, TOO_LONG)
        needed = frames_needed_flat(flat, offsets)
        leave_out(needed > num_frames(width, geometry), TOO_LONG_FOR_WIDTH)
        usable[ids] = good
    return usable, reasons


def resized_widths(sizes: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Widths in pixels after preprocessing.

    Args:
        sizes: int32 [m, 2] as `Source.sizes` gives them.
        preprocessing: the rule.

    Returns:
        int64 [m]; 0 where the picture cannot be read.
    """
    readable = sizes[:, 0] > 0
    height = np.where(readable, sizes[:, 0], 1)
    width = preprocessing.target_width(height, np.where(readable, sizes[:, 1], 1))
    return np.where(readable, width, 0)


def described(source: Source, index: int) -> str:
    """A sample for lists of what was left out: its path and its label."""
    return f"{shown_path(source.identity(index))} {shown(source.text(index))}"
