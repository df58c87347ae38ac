"""Batches of arrays in the order of the plan, read ahead by threads or by spawned processes."""

import collections
import concurrent.futures
import contextlib
import functools
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypedDict

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.annotations import resolve
from crnn_jax.data.plan import Plan, PlanRow, generator
from crnn_jax.data.source import CHANGED, Source, is_rendered

AHEAD = 2  # batches a worker has waiting
THREADS = 8  # at most, where nobody says: more fight over Python's lock

# (decoded image uint8 [h w c], generator) -> uint8 of the same shape: the plan knows the width.
Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class Batch(TypedDict):
    """What a training or evaluation step gets.

    image uint8 [b h w c], 0 in padding and masked rows; width int32 [b], of the real pixels, 0 for
    masked rows; label int32 [b n], padded with 0; label_length int32 [b], above the image's width
    if the label cannot be used; mask bool [b], True for rows with an image. On the host: id int64
    [b], -1 for filler; text, '' for filler; failed, (id, reason) of images that were not read.
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
    """Reads, augments (unless rendered), resizes and pads the images of one row."""
    b, n = len(row.ids), row.label_axis
    image = np.zeros((b, preprocessing.height, row.width, preprocessing.channels), np.uint8)
    width = np.zeros(b, np.int32)
    label = np.zeros((b, n), np.int32)
    label_length = np.zeros(b, np.int32)
    text = [""] * b
    failed = []
    at = np.flatnonzero(row.ids >= 0)
    ids = row.ids[at]
    flat, offsets = source.labels_of(ids)
    rendered = is_rendered(source, ids)
    for j, (i, sample, found) in enumerate(
        zip(at.tolist(), ids.tolist(), source.read(ids), strict=True)
    ):
        text[i] = source.text(sample)
        if isinstance(found, str):
            failed.append((sample, found))
            continue
        if preprocessing.target_width(*found.shape[:2]) > row.width:
            failed.append((sample, CHANGED))
            continue
        if augment is not None and not rendered[j]:
            found = augment(found, generator(seed, "augment", row.epoch, sample))
        resized = preprocessing.resize(found)
        width[i] = resized.shape[1]
        image[i, :, : width[i]] = resized
        label_ids = flat[offsets[j] : offsets[j + 1]]
        if row.usable[i] and label_ids.size <= n:
            label[i, : label_ids.size] = label_ids
            label_length[i] = label_ids.size
        else:
            label_length[i] = row.width + 1  # more than there are frames
    return {
        "image": image,
        "width": width,
        "label": label,
        "label_length": label_length,
        "mask": width > 0,
        "id": row.ids.astype(np.int64),
        "text": text,
        "failed": failed,
    }


def get_augment(augment: Augment | str | None) -> Augment | None:
    """An augmentation by its name in `data.augment`; a function stays what it is."""
    if augment is None or augment == "none":
        return None
    if not isinstance(augment, str):
        return augment
    return resolve("crnn_jax.synthetic.augment:named", "data.augment")(augment)


def batches(
    plan: Plan,
    source: Source,
    preprocessing: Preprocessing,
    *,
    start: int = 0,
    stop: int | None = None,
    workers: int = 0,
    host: tuple[int, int] = (0, 1),
    augment: Augment | str | None = None,
    seed: int = 0,
) -> Iterator[Batch]:
    """The batches of steps start, start + 1, ...; the same for any number of workers.

    Args:
        stop: step after the last; None goes on for ever.
        workers: processes to spawn; 0 reads with threads, enough while decoding is most of it.
        host: (index, count): only this host's rows of each batch.
        augment: of photographed images: a function, or its name in `data.augment`.
        seed: of the augmentation, which is a function of (seed, epoch, id).
    """
    read = functools.partial(
        collate, source=source, preprocessing=preprocessing, augment=get_augment(augment), seed=seed
    )
    with contextlib.ExitStack() as stack:
        if workers:
            # Spawned: a fork can hang where JAX's threads run.
            context = multiprocessing.get_context("spawn")
            processes = concurrent.futures.ProcessPoolExecutor(workers, context, _begin, (read,))
            stack.callback(processes.shutdown, cancel_futures=True)

        def make(step: int) -> Batch:
            row = plan.row(step).part(*host)
            return processes.submit(_work, row).result() if workers else read(row)

        # Threads plan the rows for processes too (a window of rendered words takes a while to lay
        # out); the number of futures bounds what is read ahead.
        ahead = AHEAD * (workers or min(THREADS, os.cpu_count() or 1))
        threads = ahead if workers else ahead // AHEAD
        pool = concurrent.futures.ThreadPoolExecutor(threads, "read")
        stack.callback(pool.shutdown, cancel_futures=True)
        steps = iter(itertools.count(start) if stop is None else range(start, stop))
        waiting = collections.deque(
            pool.submit(make, step) for step in itertools.islice(steps, ahead)
        )
        while waiting:
            try:
                batch = waiting.popleft().result()
            except BrokenProcessPool as error:
                raise UserError("a process that reads images was killed") from error
            waiting.extend(pool.submit(make, step) for step in itertools.islice(steps, 1))
            yield batch


def tf_batches(*args: Any, **options: Any) -> Iterator[Batch]:
    """The batches that `batches` gives, driven by a tf.data.Dataset: `data.loader = 'tf'`."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise UserError(
            f"data.loader='tf' needs TensorFlow ({error}); pip install '.[tensorflow]', or "
            f"set data.loader='threads'"
        ) from None
    with contextlib.suppress(RuntimeError):  # TensorFlow's devices are in use already
        tf.config.set_visible_devices([], "GPU")
    raised: list[Exception] = []  # which TensorFlow replaces by its own
    beside: collections.deque[dict[str, Any]] = collections.deque()  # what TensorFlow does not hold
    types = {"image": tf.uint8, "mask": tf.bool, "id": tf.int64}
    types |= dict.fromkeys(("width", "label", "label_length"), tf.int32)

    def elements() -> Iterator[dict[str, Any]]:
        try:
            for batch in batches(*args, **options):
                beside.append({"text": batch["text"], "failed": batch["failed"]})
                yield {name: array for name, array in batch.items() if name in types}
        except Exception as error:
            raised.append(error)
            raise

    specs = {name: tf.TensorSpec(None, dtype) for name, dtype in types.items()}
    try:
        dataset = tf.data.Dataset.from_generator(elements, output_signature=specs)
        for element in dataset.as_numpy_iterator():
            yield element | beside.popleft()
    except tf.errors.OpError:
        if raised:
            raise raised[0] from None
        raise


_read: list[Callable[[PlanRow], Batch]] = []  # of a worker process


def _begin(read: Callable[[PlanRow], Batch]) -> None:
    """In a worker process, before its first batch. Ctrl-C is for the process that trains."""
    _read[:] = [read]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # So is what Slurm and `timeout` send to all: it needs a last batch before it saves.
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(600))
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """A killed parent cannot stop its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(row: PlanRow) -> Batch:
    return _read[0](row)
