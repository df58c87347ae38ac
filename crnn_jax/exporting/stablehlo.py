"""Writes the network as one StableHLO program for CPU, CUDA and TPU: JAX alone runs it.

write_stablehlo(LoadedModel.open('en_36'), 'word.stablehlo')

program = jax.export.deserialize(bytearray(open('word.stablehlo', 'rb').read()))
out = program.call(images, widths)   # uint8 [b 32 w c], int32 [b] -> dictionary of arrays
"""

import json
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crnn_jax.core.files import whole_file
from crnn_jax.exporting.network import (
    PLATFORMS,
    width_constraint,
    with_decoder,
    without_source_paths,
)
from crnn_jax.reading.loaded_model import LoadedModel

METADATA = "crnn_jax.json"


def write_stablehlo(
    model: LoadedModel, path: str, *, post: str = "greedy", beam_width: int = 10
) -> None:
    """Writes `path`: parameters inside, batch and width free, `reader_metadata` behind.

    Args:
        model: to write.
        path: of the file.
        post: 'none', 'softmax', 'greedy' or 'beam_search'.
        beam_width: texts that 'beam_search' keeps from frame to frame.
    """
    rule = model.preprocessing
    b, w = jax.export.symbolic_shape("b, w", constraints=[width_constraint(model.config)])
    images = jax.ShapeDtypeStruct((b, rule.height, w, rule.channels), jnp.uint8)
    widths = jax.ShapeDtypeStruct((b,), jnp.int32)
    read = with_decoder(model, post, beam_width)
    # NumPy arrays: a device's own could not be written into a program for another platform.
    inside = jax.tree.map(np.asarray, model.variables)
    with without_source_paths():
        function = jax.jit(lambda *arrays: read(inside, *arrays))
        program = jax.export.export(function, platforms=PLATFORMS)(images, widths)
    with whole_file(path, "w+b") as file:
        file.write(program.serialize())
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(METADATA, reader_metadata(model, post))


def reader_metadata(model: LoadedModel, post: str, **changes: Any) -> str:
    """JSON of what a reader needs beside the network: `symbols` by class id, the preprocessing.

    `changes` replace values of the preprocessing.
    """
    values = {
        "symbols": model.symbols,
        "blank_id": model.charset.blank_id,
        "unknown_id": model.unknown_id,
        "temperature": model.temperature,
        "preprocessing": model.preprocessing.to_metadata() | changes,
        "post": post,
    }
    return json.dumps(values, ensure_ascii=False)
