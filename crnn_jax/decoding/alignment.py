"""Which frames wrote which character: CTC forced alignment by Viterbi, on the host.

spans = align(log_probs, frames, ids, id_lengths, blank_id=36)   # frames [first, last]
x = pixel_spans(spans.first[0, :n], spans.last[0, :n], geometry='keras', resized=96, width=311)
"""

from typing import NamedTuple

import numpy as np

STRIDE = 4  # pixels of the resized image from one frame to the next, in every geometry
# Centre of frame 0's window, in pixels of the resized image: the last convolution (2 wide, not
# padded) joins two pooled columns of 4 pixels, 0-8; torch's pools 3 and 4 pad half a column each.
FIRST_CENTRE = {"keras": 4.0, "torch": 0.0, "fine": 4.0}


class Alignment(NamedTuple):
    """The most probable way to write each text into its frames."""

    first: np.ndarray  # int32 [b, n], a character's first frame; -1 behind and where none fits
    last: np.ndarray  # int32 [b, n], its last frame
    confidence: np.ndarray  # float32 [b, n], its highest probability in them; 0 where first is -1


def align(
    log_probs: np.ndarray,
    lengths: np.ndarray,
    ids: np.ndarray,
    id_lengths: np.ndarray,
    *,
    blank_id: int,
) -> Alignment:
    """Aligns known texts with their frames.

    Args:
        log_probs: float [b, t, k], log-probabilities (not logits: they become the confidence).
        lengths: int [b], real frames of each row.
        ids: int [b, n], class ids; what lies behind `id_lengths` is ignored.
        id_lengths: int [b], characters of each text.
        blank_id: class id of the blank.
    """
    b, t, _ = log_probs.shape
    n = int(id_lengths.max(initial=0))
    rows = np.arange(b)
    inside = np.arange(n)[None, :] < id_lengths[:, None]
    ids = np.where(inside, ids[:, :n], blank_id)
    # State 2i + 1 is character i, the even states are the blanks around the characters.
    states = np.full((b, 2 * n + 1), blank_id, np.int64)
    states[:, 1::2] = ids
    may_skip = np.zeros((b, 2 * n + 1), bool)
    may_skip[:, 3::2] = ids[:, 1:] != ids[:, :-1]
    emission = np.take_along_axis(log_probs, states[:, None, :], axis=2)  # --> [b, t, 2n + 1]

    before = np.full((b, 2 * n + 3), -np.inf)  # two impossible states, then the scores
    score = before[:, 2:]
    score[:, 0] = 0.0  # ahead of the first frame only the blank in front exists
    came_from = np.zeros((t, b, 2 * n + 1), np.int8)  # how many states back
    for frame in range(t):
        ways = np.stack([score, before[:, 1:-1], np.where(may_skip, before[:, :-2], -np.inf)])
        came_from[frame] = ways.argmax(axis=0)
        real = (frame < lengths)[:, None]
        score[:] = np.where(real, ways.max(axis=0) + emission[:, frame], score)

    last_blank = 2 * id_lengths
    last_character = np.maximum(last_blank - 1, 0)
    ends_in_blank = score[rows, last_blank] >= score[rows, last_character]
    state = np.where(ends_in_blank, last_blank, last_character)
    fits = np.isfinite(score[rows, state])

    first, last = np.full((2, b, n), -1, np.int32)
    best = np.full((b, n), -np.inf)
    for frame in reversed(range(t)):
        on = fits & (frame < lengths) & (state % 2 == 1)
        row, position = rows[on], state[on] // 2
        first[row, position] = frame
        last[row, position] = np.maximum(last[row, position], frame)
        best[row, position] = np.maximum(best[row, position], emission[row, frame, state[on]])
        state = np.where(frame < lengths, state - came_from[frame, rows, state], state)
    return Alignment(first, last, np.exp(best).astype(np.float32))


def pixel_spans(
    first: np.ndarray, last: np.ndarray, *, geometry: str, resized: int, width: int
) -> np.ndarray:
    """The columns of the image each character of one text covers.

    CTC characters are spikes of one or two frames, so a character's span reaches from halfway to
    the character before it to halfway to the next; the outer two reach as far outward as inward,
    or to the image's edge if it is alone.

    Args:
        first, last: int [n], first and last frame of the characters.
        geometry: one of `core.geometry.GEOMETRIES`.
        resized, width: pixels of the image that the network saw, and of it as given.

    Returns:
        float [n, 2], [x0, x1) in pixels of the image as given, within [0, width].
    """
    n = len(first)
    if n == 0:
        return np.zeros((0, 2))
    left = FIRST_CENTRE[geometry] + STRIDE * np.asarray(first, float)
    right = FIRST_CENTRE[geometry] + STRIDE * np.asarray(last, float)
    borders = np.empty(n + 1)
    borders[1:-1] = (right[:-1] + left[1:]) / 2
    borders[0] = 0 if n == 1 else left[0] - (borders[1] - right[0])
    borders[-1] = resized if n == 1 else right[-1] + (left[-1] - borders[-2])
    borders = np.clip(borders, 0, resized) * (width / resized)
    return np.stack([borders[:-1], borders[1:]], axis=1)
