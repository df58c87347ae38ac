"""A model file that reads something, without training: a tiny network with random weights."""

import functools
from typing import Any

import jax
import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.model_file import save_model
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.models.config import get_model_config
from crnn_jax.models.crnn import CRNN

CHARSET = Charset.from_characters("0123456789abcdefghijklmnopqrstuvwxyz", ignore_case=True)


@functools.cache
def tiny_variables(
    num_classes: int = 37,
    channels: int = 1,
    geometry: str = "keras",
    residual: tuple[int, ...] = (),
) -> Any:
    """Random parameters, the last layers' large: its texts differ from picture to picture."""
    config = get_model_config(
        "crnn_tiny",
        num_classes=num_classes,
        channels=channels,
        geometry=geometry,
        residual=residual,
    )
    image = np.zeros((1, 32, 32, channels), np.uint8)
    init = jax.jit(functools.partial(CRNN(config).init, train=False))
    variables = init(jax.random.key(1), image, np.array([32], np.int32))
    variables = jax.tree.map(np.array, dict(variables))
    for layer, factor in (("bi_lstm1", 3), ("bi_lstm2", 3), ("logits", 40)):
        enlarged = jax.tree.map(lambda a, f=factor: a * f, variables["params"][layer])
        variables["params"][layer] = enlarged
    return variables, config


def tiny_metadata(
    table: Charset = CHARSET, geometry: str = "keras", **changes: Any
) -> dict[str, Any]:
    """What its model file states; `changes` replace whole keys."""
    _, config = tiny_variables(table.num_classes, 1, geometry)
    return {
        "model": config.to_dict(),
        **table.to_metadata(),
        "preprocessing": Preprocessing().to_metadata(),
        "temperature": 1.0,
        "emit_unknown": False,
        "training": {},
        **changes,
    }


def write_tiny_model(path: Any, table: Charset = CHARSET, **changes: Any) -> str:
    """Writes the model file and returns its path."""
    variables, _ = tiny_variables(table.num_classes)
    save_model(path, variables, tiny_metadata(table, **changes))
    return str(path)


def noise_pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    """Grey images in blocks of random levels, so that the network has to react.

    Of many sizes, but resized at most 96 pixels wide: every step of widths is a compilation.
    """
    random = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        height = random.integers(16, 64)
        width = random.integers(10, 3 * height)
        coarse = random.integers(0, 256, (height // 8 + 1, width // 8 + 1), dtype=np.uint8)
        pictures.append(np.kron(coarse, np.ones((8, 8), np.uint8))[:height, :width])
    return pictures
