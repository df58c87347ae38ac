"""One number that makes confidences honest: the temperature in a model file.

    temperature = calibrate(recognizer, [open_annotation(recognizer, 'validation.txt')])
    save_calibrated('model.safetensors', 'calibrated.safetensors', temperature)

A network trained to the end is too sure of itself; dividing its logits by a temperature above 1
makes it less so and changes no text (C. Guo et al., ICML 2017, section 4.2).
"""

import functools
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.model_file import read_safetensors, save_model
from crnn_jax.decoding.confidence import sequence_log_prob
from crnn_jax.reading.decoder import Decoder
from crnn_jax.reading.evaluation import BATCH_SIZE, batches_of, plan_of
from crnn_jax.reading.loaded_model import open_model
from crnn_jax.reading.recognizer import GREEDY, Recognizer
from crnn_jax.scoring.calibration import best_temperature

TEMPERATURES = np.geomspace(0.25, 8, 41).astype(np.float32)  # 9 % apart


def calibrate(
    recognizer: Recognizer,
    sources: Sequence[Any],
    decoder: Decoder = GREEDY,
    batch_size: int = BATCH_SIZE,
) -> float:
    """The temperature at which confidences tell best which readings are right.

    Args:
        recognizer: reads; its own temperature plays no part.
        sources: validation data, of `open_annotation`. Pictures that cannot be read are left out.
        decoder: whose readings are to be judged.
        batch_size: pictures read together.

    Raises:
        UserError: there is no picture.
    """
    blank_id = recognizer.charset.blank_id
    log_probs, right = [], []
    for source in sources:
        plan = plan_of(recognizer, source, batch_size)
        for batch in batches_of(recognizer, source, plan):
            logits, lengths = recognizer.emitted(batch)
            decoded = decoder.decode(logits, lengths, 1.0, blank_id=blank_id)
            ids, id_lengths = decoded.ids[:, 0], decoded.id_lengths[:, 0]
            tried = np.asarray(_tried(logits, lengths, ids, id_lengths, blank_id=blank_id))
            failed = dict(batch["failed"])
            for i, sample in enumerate(int(s) for s in batch["id"]):
                if sample >= 0 and sample not in failed:
                    text = recognizer.charset.decode(ids[i, : id_lengths[i]])
                    log_probs.append(tried[:, i])
                    right.append(text == source.text(sample))
    if not right:
        raise UserError("no picture to calibrate on")
    return best_temperature(TEMPERATURES, np.stack(log_probs), np.array(right))[0]


def save_calibrated(
    model: str | os.PathLike[str], path: str | os.PathLike[str], temperature: float
) -> None:
    """Writes a model anew with another temperature; float16 parameters stay what they are.

    Args:
        model: a model file or a workdir.
        path: of the file to write; may be the model's own.
        temperature: above 0.

    Raises:
        UserError: the model cannot be read, or the file not be written.
    """
    variables, metadata = open_model(model)
    half = False
    if not os.path.isdir(model):
        half = any(array.dtype == np.float16 for array in read_safetensors(model)[0].values())
    save_model(path, variables, metadata | {"temperature": temperature}, float16=half)


@functools.partial(jax.jit, static_argnames=("blank_id",))
def _tried(
    logits: jax.Array, lengths: jax.Array, ids: jax.Array, id_lengths: jax.Array, *, blank_id: int
) -> jax.Array:
    """log p(text | picture) at each of TEMPERATURES: float32 [g, b]."""

    def at(temperature):
        return sequence_log_prob(logits / temperature, lengths, ids, id_lengths, blank_id=blank_id)

    return jax.lax.map(at, jnp.asarray(TEMPERATURES))
