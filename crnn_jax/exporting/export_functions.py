"""The network as one JAX function with a free batch and width, for every export through JAX.

function = network(model.config)
logits, frames = function(model.variables, images, widths)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from crnn_jax.core.geometry import min_image_width
from crnn_jax.decoding.beam_search_jax import beam_search_jax
from crnn_jax.decoding.confidence import sequence_log_prob
from crnn_jax.decoding.greedy import emittable, greedy_decode
from crnn_jax.models.config import ModelConfig
from crnn_jax.models.crnn import CRNN
from crnn_jax.reading.loaded_model import LoadedModel

POSTS = ("none", "softmax", "greedy", "beam_search")


def width_constraint(config: ModelConfig) -> str:
    """What a free width `w` must promise: without it JAX cannot tell whether a frame is left."""
    return f"w >= {min_image_width(config.geometry)}"


def network(config: ModelConfig) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """(variables, images uint8 [b, h, w, c], widths int32 [b]) -> logits [b, t, k], frames [b]."""
    crnn = CRNN(config, convolution="xla")  # what is exported runs elsewhere

    def score(variables: Any, images: jax.Array, widths: jax.Array) -> Any:
        return crnn.apply(variables, images, widths, train=False)

    return score


def beam_texts(
    logits: jax.Array, frames: jax.Array, *, beam_width: int, blank_id: int, unknown_id: int
) -> tuple[jax.Array, jax.Array]:
    """Beam search in the network's raw output.

    Args:
        logits: float32 [b, t, k].
        frames: int32 [b], the real ones.
        beam_width: texts kept from frame to frame.
        blank_id, unknown_id: see `LoadedModel`.

    Returns:
        ids int32 [b, t], -1 behind the text; lengths int32 [b].
    """
    log_probs = jax.nn.log_softmax(emittable(logits, unknown_id=unknown_id), axis=-1)
    ids, lengths, _ = beam_search_jax(
        log_probs, frames, width=beam_width, blank_id=blank_id, by_sorting=True
    )
    return ids[:, 0], lengths[:, 0]


def reader(model: LoadedModel, post: str, beam_width: int) -> Callable[..., dict[str, jax.Array]]:
    """Network and decoder in JAX alone.

    Args:
        model: gives class ids and temperature.
        post: one of `POSTS`.
        beam_width: for 'beam_search'.

    Returns:
        A function (variables, images, widths) -> {'logits' float32 [b, t, k], 'frames' int32
        [b]}; with 'softmax' 'probabilities' float32 [b, t, k] for the logits; with a decoder also
        'ids' int32 [b, t] (-1 behind the text) and 'confidence' float32 [b].
    """
    score, blank_id = network(model.config), model.charset.blank_id

    def read(variables: Any, images: jax.Array, widths: jax.Array) -> dict[str, jax.Array]:
        logits, frames = score(variables, images, widths)
        if post == "softmax":
            return {"probabilities": jax.nn.softmax(logits, axis=-1), "frames": frames}
        if post == "none":
            return {"logits": logits, "frames": frames}
        allowed = emittable(logits, unknown_id=model.unknown_id)
        if post == "greedy":
            ids, lengths = greedy_decode(allowed, frames, blank_id=blank_id)
        else:
            ids, lengths = beam_texts(
                logits,
                frames,
                beam_width=beam_width,
                blank_id=blank_id,
                unknown_id=model.unknown_id,
            )
        log_prob = sequence_log_prob(
            allowed / model.temperature, frames, ids, lengths, blank_id=blank_id
        )
        return {"logits": logits, "frames": frames, "ids": ids, "confidence": jnp.exp(log_prob)}

    return read
