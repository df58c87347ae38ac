"""A sheet of validation pictures with what was read and what should have been."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crnn_jax.core.charset import Charset
from crnn_jax.data.loader import Batch
from crnn_jax.data.source import Source
from crnn_jax.scoring.evaluation import Prediction

ROW, WIDE, MARGIN = 64, 320, 6  # pixels
INK, RIGHT, WRONG = (30, 30, 30), (0, 110, 60), (190, 20, 40)


class Sample(NamedTuple):
    """A picture and two texts.

    Attributes:
        image: uint8 [h w 1|3].
        label: what stands there.
        text: what was read.
    """

    image: np.ndarray
    label: str
    text: str


class FirstBatch:
    """Passes batches on to `predict` and keeps the first with its answer."""

    def __init__(self, predict: Callable[[Batch], Prediction]):
        self._predict = predict
        self._kept: tuple[Batch, Prediction] | None = None

    def __call__(self, batch: Batch) -> Prediction:
        """What `predict` answers."""
        found = self._predict(batch)
        if self._kept is None:
            self._kept = batch, found
        return found

    def samples(self, source: Source, charset: Charset, count: int) -> list[Sample]:
        """At most so many of that batch."""
        if self._kept is None:
            return []
        batch, found = self._kept
        ids, lengths = np.asarray(found.ids), np.asarray(found.id_lengths)
        return [
            Sample(
                batch["image"][i][:, : batch["width"][i]],
                source.text(int(batch["id"][i])),
                charset.decode(ids[i, : lengths[i]]),
            )
            for i in np.flatnonzero(batch["mask"])[:count]
        ]


def sheet(samples: Sequence[Sample], columns: int = 3) -> np.ndarray:
    """The samples side by side: each picture, its label below, and the reading if that is another.

    Returns:
        uint8 [height width 3].
    """
    rows = max(1, -(-len(samples) // columns))
    picture = Image.new("RGB", (columns * WIDE, rows * ROW), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    for i, sample in enumerate(samples):
        left, top = i % columns * WIDE + MARGIN, i // columns * ROW + MARGIN
        image = sample.image[..., 0] if sample.image.shape[2] == 1 else sample.image
        room = (WIDE - 2 * MARGIN, ROW - 2 * MARGIN - 20)
        word = Image.fromarray(image).convert("RGB")
        word.thumbnail(room)
        picture.paste(word, (left, top))
        below = top + room[1] + 2
        same = sample.label == sample.text
        pen.text((left, below), sample.label, font=font, fill=RIGHT if same else INK)
        if not same:
            end = left + pen.textlength(f"{sample.label}  ", font=font)
            pen.text((end, below), sample.text or "(nothing)", font=font, fill=WRONG)
    return np.asarray(picture)
