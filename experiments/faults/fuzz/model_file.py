"""Fuzzes model files: the bytes, and behind a checksum that is right the metadata; see target.py.

An input's first byte says which of the two the rest is.
"""

import functools
import json

from target import fuzz, scratch_file


def one_input(data):

    from crnn_jax.core.model_file import load_model
    from crnn_jax.reading.loaded_model import LoadedModel

    variables, metadata = _model()
    if data[:1] == b"f":
        with scratch_file(data[1:], ".safetensors") as path:
            variables, metadata = load_model(path)
    elif data[:1] == b"m":
        try:
            metadata = json.loads(data[1:])
        except (ValueError, RecursionError):
            return
        if not isinstance(metadata, dict):
            return
    LoadedModel.of(variables, metadata, "fuzz")


def seeds():
    from crnn_jax.core.model_file import save_model

    variables, metadata = _model()
    with scratch_file(b"", ".safetensors") as path:
        save_model(path, variables, metadata)
        yield b"f" + path.read_bytes()
    yield b"m" + json.dumps(metadata).encode()


@functools.cache
def _model():
    import numpy as np

    from crnn_jax.core.charset import Charset
    from crnn_jax.core.model_file import unflatten
    from crnn_jax.core.preprocessing import Preprocessing
    from crnn_jax.models.config import ModelConfig
    from crnn_jax.reading.loaded_model import expected_shapes

    config = ModelConfig(num_classes=4, filters=(1,) * 7, hidden=1)
    ones = {path: np.ones(shape, np.float32) for path, shape in expected_shapes(config).items()}
    stated = {"model": config.to_dict(), "preprocessing": Preprocessing().to_metadata()}
    return unflatten(ones), stated | Charset.from_characters("ab ").to_metadata()


if __name__ == "__main__":
    fuzz("model_file", one_input, seeds)
