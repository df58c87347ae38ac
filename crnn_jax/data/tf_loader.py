"""The same batches as a tf.data.Dataset, for TensorFlow users and for `data.loader = 'tf'`.

    dataset = as_dataset(config)                          # endless, in the plan's order
    model.fit(dataset.map(lambda batch: (batch['image'], batch['label'])))

The batches are those of `loader`. A dataset has no state beside the step it starts at, so that to
resume is to start there. TensorFlow is imported when the first dataset is made.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data import loader
from crnn_jax.data.plan import Plan
from crnn_jax.data.source import Source
from crnn_jax.data.sources import charset_of, open_sources, plan_of, preprocessing_of


def as_dataset(
    config: Any, *, training: bool = True, start: int = 0, origin: dict[str, Any] | None = None
) -> Any:
    """What a config trains on (or validates on), as a tf.data.Dataset from step `start` on.

    Args:
        training: False gives every sample of the first validation source once.
        origin: metadata of the model that `config.init_from` names: `load_model(PATH)[1]`.

    Returns:
        A dataset of dictionaries, endless where training: the arrays of `loader.Batch`, text
        string [b], failed_id int64 [f] and failed_reason string [f].
    """
    own = Preprocessing.from_metadata(origin["preprocessing"]) if origin else None
    charset, preprocessing = charset_of(config), preprocessing_of(config, own)
    geometry = config.model.geometry or (origin["model"]["geometry"] if origin else "keras")
    train, validation = open_sources(config, charset, preprocessing, geometry)
    if not training and not validation:
        raise UserError("data.validation: there is none; name a file, or set data.split")
    source = train if training else validation[0]
    plan = plan_of(config, source, preprocessing, geometry, evaluation=not training)
    stop = None if training else plan.steps_per_epoch
    augment = config.data.augment if training else None
    options = {"start": start, "stop": stop, "augment": augment, "seed": config.seed}
    return make_dataset(plan, source, preprocessing, **options)


def make_dataset(
    plan: Plan,
    source: Source,
    preprocessing: Preprocessing,
    *,
    host: tuple[int, int] = (0, 1),
    raised: list[Exception] | None = None,
    **options: Any,
) -> Any:
    """A tf.data.Dataset of the plan's steps; arguments as `loader.batches`.

    What reading raises becomes an error of TensorFlow's own; `raised` gets the original.
    """
    tf = _tensorflow()

    def elements() -> Iterator[dict[str, Any]]:
        try:
            for batch in loader.batches(plan, source, preprocessing, host=host, **options):
                element: dict[str, Any] = dict(batch)
                failed = element.pop("failed")
                element["text"] = np.array(element["text"], object)
                element["failed_id"] = np.array([i for i, _ in failed], np.int64)
                element["failed_reason"] = np.array([reason for _, reason in failed], object)
                yield element
        except Exception as error:
            if raised is not None:
                raised.append(error)
            raise

    b = plan.batch_size // host[1]
    signature = {
        "image": ((b, preprocessing.height, None, preprocessing.channels), tf.uint8),
        "width": ((b,), tf.int32),
        "label": ((b, None), tf.int32),
        "label_length": ((b,), tf.int32),
        "mask": ((b,), tf.bool),
        "id": ((b,), tf.int64),
        "text": ((b,), tf.string),
        "failed_id": ((None,), tf.int64),
        "failed_reason": ((None,), tf.string),
    }
    specs = {name: tf.TensorSpec(*spec) for name, spec in signature.items()}
    return tf.data.Dataset.from_generator(elements, output_signature=specs)


def batches(
    plan: Plan, source: Source, preprocessing: Preprocessing, **options: Any
) -> Iterator[loader.Batch]:
    """`loader.batches`, driven by tf.data: the same arguments, the same batches.

    TensorFlow is kept off accelerators: they belong to whoever trains.
    """
    tf = _tensorflow()
    with contextlib.suppress(RuntimeError):  # the process has used TensorFlow's devices already
        tf.config.set_visible_devices([], "GPU")
    raised: list[Exception] = []
    elements = make_dataset(plan, source, preprocessing, raised=raised, **options)
    try:
        for element in elements.as_numpy_iterator():
            failed = zip(element.pop("failed_id"), element.pop("failed_reason"), strict=True)
            element["failed"] = [(int(i), reason.decode()) for i, reason in failed]
            element["text"] = [text.decode() for text in element["text"]]
            yield element
    except tf.errors.OpError:
        if raised:
            raise raised[0] from None
        raise


def _tensorflow() -> Any:
    try:
        import tensorflow
    except ImportError as error:
        raise UserError(
            f"data.loader='tf' needs TensorFlow ({error}); install crnn_jax[tensorflow], or "
            f"set data.loader='threads'"
        ) from None
    return tensorflow
