"""Reads every sample of a source and counts.

It is handed two things: `predict`, which knows the model and the device, and `batches`, which
know the files. So training, the `evaluate` command and a test with a made-up reader share it.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.scoring.result import EvaluationResult, Row


class Prediction(NamedTuple):
    """What `predict` returns for a batch; NumPy or JAX arrays, a plain tuple will do.

    Attributes:
        ids: int32 [b n], class ids of the texts from the left.
        id_lengths: int32 [b], characters of each text.
        log_prob: float32 [b], log p(text | picture).
        loss: float32 [b], CTC loss of the label, NaN where the label fits no alignment; None if
            it is not wanted.
    """

    ids: Any
    id_lengths: Any
    log_prob: Any
    loss: Any = None


Predict = Callable[[Any], tuple[Any, ...]]


def evaluate_batches(
    predict: Predict, batches: Iterable[Any], source: Any, charset: Charset
) -> EvaluationResult:
    """Evaluates on batches of one source.

    A batch is sent to `predict` before the answer for the one before it is waited for, so that a
    device is never idle. Rows that only fill a batch (id below 0) are left out; pictures that
    could not be read are counted as wrong.

    Args:
        predict: batch -> `Prediction` (or a tuple of its first three or four).
        batches: dictionaries as `data.loader.collate` makes them, every sample of `source`
            once; of several hosts each passes its own and the results are added.
        source: whose samples they are; gives names, labels and reasons.
        charset: turns class ids into text.

    Returns:
        An `EvaluationResult` with one set, named as the source, its rows in the source's order.

    Raises:
        ValueError: a sample came twice: its batches would be counted wrongly.
    """
    result = EvaluationResult()
    seen: set[int] = set()

    def started() -> Iterator[Any]:
        for batch in batches:
            for sample in (int(i) for i in batch["id"] if i >= 0):
                if sample in seen:
                    raise ValueError(f"{source.name}: sample {sample} came twice")
                seen.add(sample)
            yield batch, Prediction(*predict(batch))
        yield None

    for (batch, predicted), _ in itertools.pairwise(started()):
        ids, lengths, log_probs = (np.asarray(array) for array in predicted[:3])
        losses = None if predicted.loss is None else np.asarray(predicted.loss)
        failed = dict(batch["failed"])
        for i, sample in enumerate(int(s) for s in batch["id"]):
            if sample < 0:
                continue
            known = (sample, source.identity(sample), source.name, source.text(sample))
            if sample in failed:
                result.add(Row(*known, None, math.nan, failed[sample]))
                continue
            text = charset.decode(ids[i, : lengths[i]])
            confidence = math.exp(min(float(log_probs[i]), 0.0))
            loss = math.nan if losses is None else float(losses[i])
            result.add(Row(*known, text, confidence), loss)
    result.rows.sort(key=lambda row: row.id)  # batches follow widths, people the file
    return result
