"""The same batches through tf.data, for TensorFlow users and for `data.loader = 'tf'`.

    dataset = as_dataset(config)                          # endless, in the plan's order
    model.fit(dataset.map(lambda batch: (batch['image'], batch['label'])))

tf.data only schedules: every batch is made by `collate`, as in `loader`. A dataset has no state
beside the step it starts at, so that to resume is to start there. TensorFlow is imported when the
first dataset is made.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.collate import Augment, Batch, collate, named_augment
from crnn_jax.data.open import charset_of, open_sources, plan_of, preprocessing_of
from crnn_jax.data.plan import Plan
from crnn_jax.data.source import Source

AHEAD = 2  # batches made before they are asked for
ENDLESS = np.iinfo(np.int64).max
ARRAYS = {
    "image": "uint8",
    "width": "int32",
    "label": "int32",
    "label_length": "int32",
    "mask": "bool",
    "id": "int64",
}


def as_dataset(
    config: Any,
    *,
    training: bool = True,
    start: int = 0,
    origin: dict[str, Any] | None = None,
) -> Any:
    """What a config trains on (or validates on), as a tf.data.Dataset.

    Args:
        config: as for training.
        training: False gives every sample of the first validation source once.
        start: first step.
        origin: metadata of the model that `config.init_from` names: `load_model(PATH)[1]`.

    Returns:
        A dataset of dictionaries: image uint8 [b h w c], width int32 [b], label int32 [b n],
        label_length int32 [b], mask bool [b], id int64 [b], text string [b], failed_id int64 [f]
        and failed_reason string [f] (see `collate.Batch`). Endless where training.

    Raises:
        UserError: TensorFlow is not installed, or whatever `open_sources` finds.
    """
    own = Preprocessing.from_metadata(origin["preprocessing"]) if origin else None
    charset, preprocessing = charset_of(config), preprocessing_of(config, own)
    geometry = config.model.geometry or (origin["model"]["geometry"] if origin else "keras")
    train, validation = open_sources(config, charset, preprocessing, geometry)
    if not training and not validation:
        raise UserError("data.validation: there is none; name a file, or set data.split")
    source = train if training else validation[0]
    plan = plan_of(config, source, preprocessing, geometry, evaluation=not training)
    return make_dataset(
        plan,
        source,
        preprocessing,
        start=start,
        stop=None if training else plan.steps_per_epoch,
        augment=config.data.augment if training else None,
        seed=config.seed,
    )


def make_dataset(
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
    raised: list[Exception] | None = None,
) -> Any:
    """A tf.data.Dataset of the plan's steps; arguments as `loader.batches`, `workers` threads.

    What reading raises becomes an error of TensorFlow's own; `raised` gets the original.
    """
    tf = _tensorflow()
    change = named_augment(augment)

    def load(step: np.ndarray) -> list[Any]:
        try:
            return read(step)
        except Exception as error:
            if raised is not None:
                raised.append(error)
            raise

    def read(step: np.ndarray) -> list[Any]:
        row = plan.row(int(step)).part(*host)
        batch = collate(row, source, preprocessing, augment=change, seed=seed)
        failed_ids = np.array([i for i, _ in batch["failed"]], np.int64)
        failed_reasons = [reason.encode() for _, reason in batch["failed"]]
        texts = [text.encode() for text in batch["text"]]
        arrays: list[Any] = [batch[key] for key in ARRAYS]  # type: ignore[literal-required]
        return [*arrays, np.array(texts, object), failed_ids, np.array(failed_reasons, object)]

    rows = plan.batch_size // host[1]
    shapes = {
        "image": (rows, preprocessing.height, None, preprocessing.channels),
        "label": (rows, None),
        "failed_id": (None,),
        "failed_reason": (None,),
    }
    types = {key: getattr(tf, name) for key, name in ARRAYS.items()}
    types |= {"text": tf.string, "failed_id": tf.int64, "failed_reason": tf.string}

    def loaded(step: Any) -> dict[str, Any]:
        values = tf.numpy_function(load, [step], list(types.values()), stateful=False)
        batch = dict(zip(types, values, strict=True))
        for key, value in batch.items():
            value.set_shape(shapes.get(key, (rows,)))
        return batch

    steps = tf.data.Dataset.range(start, ENDLESS if stop is None else stop)
    threads = workers or os.cpu_count() or 1
    return steps.map(loaded, num_parallel_calls=threads, deterministic=True).prefetch(AHEAD)


def batches(
    plan: Plan, source: Source, preprocessing: Preprocessing, **options: Any
) -> Iterator[Batch]:
    """`loader.batches`, driven by tf.data: the same arguments, the same batches.

    TensorFlow is kept off accelerators: they belong to whoever trains.
    """
    tf = _tensorflow()
    with contextlib.suppress(RuntimeError):  # the process has used TensorFlow's devices already
        tf.config.set_visible_devices([], "GPU")
    raised: list[Exception] = []
    dataset = make_dataset(plan, source, preprocessing, **options, raised=raised)
    elements = dataset.as_numpy_iterator()
    while True:
        try:
            element = next(elements)
        except StopIteration:
            return
        except tf.errors.OpError:
            if raised:
                raise raised[0] from None
            raise
        failed = zip(element.pop("failed_id"), element.pop("failed_reason"), strict=True)
        element["failed"] = [(int(i), reason.decode()) for i, reason in failed]
        element["text"] = [text.decode() for text in element["text"]]
        yield element


def _tensorflow() -> Any:
    try:
        import tensorflow
    except ImportError as error:
        raise UserError(
            f"data.loader='tf' needs TensorFlow ({error}); install crnn_jax[tensorflow], or "
            f"set data.loader='threads'"
        ) from None
    return tensorflow
