"""Writes the network as one StableHLO program for CPU, CUDA and TPU: JAX alone runs it.

write_stablehlo(LoadedModel.open('en_36'), 'word.stablehlo')

program = jax.export.deserialize(bytearray(open('word.stablehlo', 'rb').read()))
out = program.call(images, widths)   # uint8 [b 32 w c], int32 [b] -> dictionary of arrays
"""

import json
import zipfile

from crnn_jax.core.whole_file import whole_file
from crnn_jax.exporting.export_functions import reader
from crnn_jax.exporting.program import export_program
from crnn_jax.exporting.tflite_model import METADATA, metadata
from crnn_jax.reading.loaded_model import LoadedModel


def write_stablehlo(
    model: LoadedModel, path: str, *, post: str = "greedy", beam_width: int = 10
) -> None:
    """Writes `path`: parameters inside, batch and width free.

    Args:
        model: to write.
        path: of the file.
        post: one of `export_functions.POSTS`.
        beam_width: texts that 'beam_search' keeps from frame to frame.

    Characters and preprocessing lie behind the program, as in a TFLite file.
    """
    program = export_program(reader(model, post, beam_width), model, variables_inside=True)
    with whole_file(path, "w+b") as file:
        file.write(program.serialize())
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(METADATA, json.dumps(metadata(model, post), ensure_ascii=False))
