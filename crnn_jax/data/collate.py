"""One row of the plan -> one batch of arrays. Both loaders call this and nothing else."""

from collections.abc import Callable
from typing import TypedDict

import numpy as np

from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.named import load
from crnn_jax.data.plan import PlanRow
from crnn_jax.data.randomness import generator
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
    """Reads, resizes and pads the pictures of one row.

    Args:
        row: ids, width and label axis of the batch.
        source: the samples.
        preprocessing: the rule for resizing.
        augment: changes decoded pictures, but never rendered ones; its randomness is a function
            of (seed, epoch, id).
        seed: of the augmentation.

    Returns:
        A `Batch` whose arrays nobody else holds.
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
                picture = _augmented(picture, augment, seed, row.epoch, sample)
            if preprocessing.target_width(*picture.shape[:2]) > row.width:
                picture = CHANGED
        if isinstance(picture, str):
            failed.append((sample, picture))
            continue
        resized = preprocessing.resize(picture)
        width[i] = resized.shape[1]
        image[i, :, : width[i]] = resized
        ids_of_label = flat[offsets[j] : offsets[j + 1]]
        if row.usable[i] and ids_of_label.size <= n:
            label[i, : ids_of_label.size] = ids_of_label
            label_length[i] = ids_of_label.size
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


def _augmented(
    picture: np.ndarray, augment: Augment, seed: int, epoch: int, sample: int
) -> np.ndarray:
    changed = augment(picture, generator(seed, "augment", epoch, sample))
    if changed.shape != picture.shape or changed.dtype != np.uint8:
        raise ValueError(
            f"augmentation made {changed.dtype} {list(changed.shape)} of uint8 "
            f"{list(picture.shape)}; it must keep the size"
        )
    return changed


def named_augment(augment: Augment | str | None) -> Augment | None:
    """An augmentation by its name in `data.augment`; a function stays what it is.

    Raises:
        UserError: there is none of this name.
    """
    if augment is None or augment == "none":
        return None
    if not isinstance(augment, str):
        return augment
    return load("crnn_jax.synthetic.augment:named", "data.augment")(augment)
