"""Network and decoder as one JAX function, and that as a StableHLO program: JAX alone runs it.

write_stablehlo(LoadedModel.open('en_36'), 'word.stablehlo')

program = jax.export.deserialize(bytearray(open('word.stablehlo', 'rb').read()))
out = program.call(images, widths)   # uint8 [b 32 w c], int32 [b] -> dictionary of arrays
"""

import functools
import zipfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crnn_jax.core.files import whole_file
from crnn_jax.core.geometry import min_image_width
from crnn_jax.decoding.beam_search_jax import beam_search_jax
from crnn_jax.decoding.greedy import emittable, greedy_decode, sequence_log_prob, spelled
from crnn_jax.exporting.metadata import METADATA, reader_metadata
from crnn_jax.models.config import ModelConfig
from crnn_jax.models.crnn import CRNN
from crnn_jax.reading.loaded_model import LoadedModel

PLATFORMS = ("cpu", "cuda", "tpu")
# Programs do not tell where this package is installed.
jax.config.update("jax_hlo_source_file_canonicalization_regex", ".*")


def write_stablehlo(
    model: LoadedModel, path: str, *, post: str = "greedy", beam_width: int = 10
) -> None:
    """Writes `path`: parameters inside, batch and width free, `reader_metadata` behind."""
    import flatbuffers  # noqa: F401 - what JAX serialises with; its own error names no module

    rule = model.preprocessing
    b, w = jax.export.symbolic_shape("b, w", constraints=[width_constraint(model.config)])
    images = jax.ShapeDtypeStruct((b, rule.height, w, rule.channels), jnp.uint8)
    widths = jax.ShapeDtypeStruct((b,), jnp.int32)
    read = with_decoder(model, post, beam_width)
    # NumPy arrays: a device's own could not be written into a program for another platform.
    inside = jax.tree.map(np.asarray, model.variables)
    function = jax.jit(lambda *arrays: read(inside, *arrays))
    program = jax.export.export(function, platforms=PLATFORMS)(images, widths)
    with whole_file(path, "w+b") as file:
        file.write(program.serialize())
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(METADATA, reader_metadata(model, post))


def width_constraint(config: ModelConfig) -> str:
    """What JAX must know of a free width `w`: that at least one frame is left of it."""
    return f"w >= {min_image_width(config.geometry)}"


def network(config: ModelConfig) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """(variables, images uint8 [b h w c], widths int32 [b]) -> logits [b t k], frames [b]."""
    crnn = CRNN(config, convolution="xla")  # no kernels of this machine: the export runs elsewhere
    return functools.partial(crnn.apply, train=False)


def with_decoder(model: LoadedModel, post: str, beam_width: int = 10) -> Callable[..., Any]:
    """Network and decoder in JAX alone; `post` 'none', 'softmax', 'greedy' or 'beam_search'.

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
        allowed = spelled(allowed, frames, model.spelling)
        if post == "greedy":
            ids, lengths = greedy_decode(allowed, frames, blank_id=blank_id)
        else:
            log_probs = jax.nn.log_softmax(allowed, axis=-1)
            paths, path_lengths, _ = beam_search_jax(
                log_probs, frames, width=beam_width, blank_id=blank_id, by_sorting=True
            )
            ids, lengths = paths[:, 0], path_lengths[:, 0]
        scaled = allowed / model.temperature
        log_prob = sequence_log_prob(scaled, frames, ids, lengths, blank_id=blank_id)
        return {"logits": logits, "frames": frames, "ids": ids, "confidence": jnp.exp(log_prob)}

    return read
