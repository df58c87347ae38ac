"""The network as one JAX function with a free batch and width, for every export through JAX.

function = with_decoder(model, 'greedy')
out = function(model.variables, images, widths)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp

from crnn_jax.core.geometry import min_image_width
from crnn_jax.decoding.beam_search_jax import beam_search_jax
from crnn_jax.decoding.greedy import emittable, greedy_decode, sequence_log_prob
from crnn_jax.models.config import ModelConfig
from crnn_jax.models.crnn import CRNN
from crnn_jax.reading.loaded_model import LoadedModel

PLATFORMS = ("cpu", "cuda", "tpu")
_SOURCE_FILES = "jax_hlo_source_file_canonicalization_regex"


def width_constraint(config: ModelConfig) -> str:
    """What JAX must know of a free width `w`: that at least one frame is left of it."""
    return f"w >= {min_image_width(config.geometry)}"


@contextmanager
def without_source_paths() -> Iterator[None]:
    """Programs lowered in this context do not tell where this package is installed."""
    before = jax.config.values[_SOURCE_FILES]
    jax.config.update(_SOURCE_FILES, ".*")
    try:
        yield
    finally:
        jax.config.update(_SOURCE_FILES, before)


def network(config: ModelConfig) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """(variables, images uint8 [b h w c], widths int32 [b]) -> logits [b t k], frames [b]."""
    crnn = CRNN(config, convolution="xla")  # no kernels of this machine: the export runs elsewhere

    def score(variables: Any, images: jax.Array, widths: jax.Array) -> Any:
        return crnn.apply(variables, images, widths, train=False)

    return score


def with_decoder(model: LoadedModel, post: str, beam_width: int = 10) -> Callable[..., Any]:
    """Network and decoder in JAX alone.

    Args:
        model: gives class ids and temperature.
        post: 'none', 'softmax', 'greedy' or 'beam_search'.
        beam_width: for 'beam_search'.

    Returns:
        A function (variables, images, widths) -> {'logits' float32 [b t k], 'frames' int32 [b]};
        with 'softmax' 'probabilities' [b t k] for the logits; with a decoder also 'ids' int32
        [b t] (-1 after the text) and 'confidence' float32 [b].
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
            log_probs = jax.nn.log_softmax(allowed, axis=-1)
            paths, path_lengths, _ = beam_search_jax(
                log_probs, frames, width=beam_width, blank_id=blank_id, by_sorting=True
            )
            ids, lengths = paths[:, 0], path_lengths[:, 0]
        log_prob = sequence_log_prob(
            allowed / model.temperature, frames, ids, lengths, blank_id=blank_id
        )
        return {"logits": logits, "frames": frames, "ids": ids, "confidence": jnp.exp(log_prob)}

    return read
