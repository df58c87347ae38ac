"""The batches of `loader` driven by a tf.data.Dataset: `data.loader = 'tf'`.

A dataset has no state beside the step it starts at, so that to resume is to start there.
TensorFlow is imported when the first batch is asked for.
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


def batches(
    plan: Plan,
    source: Source,
    preprocessing: Preprocessing,
    *,
    host: tuple[int, int] = (0, 1),
    **options: Any,
) -> Iterator[loader.Batch]:
    """The same arguments and the same batches as `loader.batches`.

    TensorFlow is kept off accelerators: they belong to whoever trains.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise UserError(
            f"data.loader='tf' needs TensorFlow ({error}); install crnn_jax[tensorflow], or "
            f"set data.loader='threads'"
        ) from None
    with contextlib.suppress(RuntimeError):  # the process has used TensorFlow's devices already
        tf.config.set_visible_devices([], "GPU")
    raised: list[Exception] = []  # TensorFlow makes an error of its own of it

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
    dataset = tf.data.Dataset.from_generator(elements, output_signature=specs)
    try:
        for element in dataset.as_numpy_iterator():
            failed = zip(element.pop("failed_id"), element.pop("failed_reason"), strict=True)
            element["failed"] = [(int(i), reason.decode()) for i, reason in failed]
            element["text"] = [text.decode() for text in element["text"]]
            yield element
    except tf.errors.OpError:
        if raised:
            raise raised[0] from None
        raise
