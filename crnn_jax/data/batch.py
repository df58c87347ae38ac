"""One row of the plan -> one batch of arrays. Both loaders call `collate` and nothing else."""

from collections.abc import Callable
from typing import TypedDict

import numpy as np

from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.annotations import resolve
from crnn_jax.data.plan import PlanRow, generator
from crnn_jax.data.source import CHANGED, Source, is_rendered

# (decoded picture uint8 [h w c], generator) -> uint8 of the same shape: the plan knows the width.
Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class Batch(TypedDict):
    """What a training or evaluation step gets.

    image uint8 [b h w c], 0 in padding and masked rows; width int32 [b], real width in pixels,
    0 for masked rows; label int32 [b n], padded with 0; label_length int32 [b]: n + 1, which no
    alignment holds, where the label cannot be trained on (evaluation only); mask bool [b], True
    for rows with a picture. On the host: id int64 [b], -1 for filler; text, the labels, '' for
    filler; failed, (id, reason) of pictures that could not be read.
    """

    image: np.ndarray
    width: np.ndarray
    label: np.ndarray
    label_length: np.ndarray
    mask: np.ndarray
    id: np.ndarray
    text: list[str]
    failed: list[tuple[int, str]]


def collate(
    row: PlanRow,
    source: Source,
    preprocessing: Preprocessing,
    *,
    augment: Augment | None = None,
    seed: int = 0,
) -> Batch:
    """Reads, resizes and pads the pictures of one row; nobody else holds the batch's arrays.

    `augment` changes decoded pictures, but never rendered ones; its randomness is a function of
    (seed, epoch, id).
    """
    b, n = len(row.ids), row.label_axis
    shape = (b, preprocessing.height, row.width, preprocessing.channels)
    image = np.zeros(shape, np.uint8)
    width = np.zeros(b, np.int32)
    label = np.zeros((b, n), np.int32)
    label_length = np.zeros(b, np.int32)
    text = [""] * b
    failed = []
    at = np.flatnonzero(row.ids >= 0)
    ids = row.ids[at]
    flat, offsets = source.labels_of(ids)
    rendered = is_rendered(source, ids)
    for j, (i, sample, picture) in enumerate(
        zip(at.tolist(), ids.tolist(), source.read(ids), strict=True)
    ):
        text[i] = source.text(sample)
        if not isinstance(picture, str):
            if augment is not None and not rendered[j]:
                changed = augment(picture, generator(seed, "augment", row.epoch, sample))
                if changed.shape != picture.shape:
                    raise ValueError(f"augmentation made {changed.shape} of {picture.shape}")
                picture = changed
            if preprocessing.target_width(*picture.shape[:2]) > row.width:
                picture = CHANGED
        if isinstance(picture, str):
            failed.append((sample, picture))
            continue
        resized = preprocessing.resize(picture)
        width[i] = resized.shape[1]
        image[i, :, : width[i]] = resized
        label_ids = flat[offsets[j] : offsets[j + 1]]
        if row.usable[i] and label_ids.size <= n:
            label[i, : label_ids.size] = label_ids
            label_length[i] = label_ids.size
        else:
            label_length[i] = n + 1
    return Batch(
        image=image,
        width=width,
        label=label,
        label_length=label_length,
        mask=width > 0,
        id=row.ids.astype(np.int64),
        text=text,
        failed=failed,
    )


def get_augment(augment: Augment | str | None) -> Augment | None:
    """An augmentation by its name in `data.augment`; a function stays what it is."""
    if augment is None or augment == "none":
        return None
    if not isinstance(augment, str):
        return augment
    return resolve("crnn_jax.synthetic.augment:named", "data.augment")(augment)
