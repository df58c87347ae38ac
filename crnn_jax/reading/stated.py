"""What a model file states, parsed, and whether it can be: before anything is compiled or computed.

A file is sound by its checksum and may still say anything: a table of other characters than the
network has classes, a loop unrolled a billion times, weights of another network.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.geometry import GEOMETRIES
from crnn_jax.core.model_file import flatten
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.models.config import DTYPES, ModelConfig
from crnn_jax.models.crnn import NORMALISED

HEIGHT = 32  # pixels; the network's pools and last convolution make one row of them
CONVOLUTIONS = 7
MAX_UNROLL = 256  # steps; each is compiled

Shapes = dict[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Stated:
    """A model's metadata.

    Attributes:
        config, charset, preprocessing: as they are.
        temperature: of confidences, above 0.
        emits_unknown: characters outside the table were trained as `<UNK>`.
    """

    config: ModelConfig
    charset: Charset
    preprocessing: Preprocessing
    temperature: float
    emits_unknown: bool

    @classmethod
    def of(cls, variables: dict[str, Any], metadata: dict[str, Any], name: str) -> "Stated":
        """Parses and checks what `load_model` returns; `name` is what errors call the model.

        Raises:
            UserError: the metadata make no sense, contradict each other or the weights.
        """
        try:
            stated = cls(
                ModelConfig.from_metadata(metadata),
                Charset.from_metadata(metadata),
                Preprocessing.from_metadata(metadata["preprocessing"]),
                metadata.get("temperature", 1.0),
                metadata.get("emit_unknown", False),
            )
            _check_values(stated)
            _check_weights(variables, stated.config)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise UserError(f"{name}: its metadata cannot be used: {error}") from error
        return stated


def expected_shapes(config: ModelConfig) -> Shapes:
    """Path -> shape of every array of a network."""
    shapes: Shapes = {}

    def dense(name: str, before: int, after: int) -> None:
        shapes[f"params/{name}/kernel"] = (before, after)
        shapes[f"params/{name}/bias"] = (after,)

    before = config.channels
    for i, filters in enumerate(config.filters):
        side = 2 if i == CONVOLUTIONS - 1 else 3
        shapes[f"params/conv{i + 1}/kernel"] = (side, side, before, filters)
        if i in NORMALISED:
            for path in ("params/{}/scale", "params/{}/bias", "batch_stats/{}/mean"):
                shapes[path.format(f"bn{i + 1}")] = (filters,)
            shapes[f"batch_stats/bn{i + 1}/var"] = (filters,)
        else:
            shapes[f"params/conv{i + 1}/bias"] = (filters,)
        before = filters
    for layer in ("bi_lstm1", "bi_lstm2"):
        for direction in ("forward", "backward"):
            dense(f"{layer}/{direction}", before, 4 * config.hidden)
            shapes[f"params/{layer}/{direction}/recurrent_kernel"] = (
                config.hidden,
                4 * config.hidden,
            )
        before = 2 * config.hidden
        if config.geometry == "torch" and layer == "bi_lstm1":
            dense("projection", before, config.hidden)
            before = config.hidden
    dense("logits", before, config.num_classes)
    return shapes


def _check_values(stated: Stated) -> None:
    config, image = stated.config, stated.preprocessing

    def require(right: bool, key: str, value: Any, what: str) -> None:
        if not right:
            raise UserError(f"{key}={repr(value)[:60]}: must be {what}")

    def number(value: Any) -> bool:
        return type(value) in (int, float) and math.isfinite(value)

    sizes = (config.num_classes, config.hidden, *config.filters)
    whole = all(type(n) is int and n > 0 for n in sizes) and len(config.filters) == CONVOLUTIONS
    require(whole, "model", sizes, f"{CONVOLUTIONS} convolutions, their sizes whole numbers")
    require(config.geometry in GEOMETRIES, "model.geometry", config.geometry, str(GEOMETRIES))
    require(config.dtype in DTYPES, "model.dtype", config.dtype, " | ".join(DTYPES))
    right = type(config.unroll) is int and 1 <= config.unroll <= MAX_UNROLL
    require(right, "model.unroll", config.unroll, f"1 to {MAX_UNROLL}")
    for key in ("bn_epsilon", "bn_momentum"):
        value = config.to_dict()[key]
        require(number(value), f"model.{key}", value, "a finite number")
    right = config.channels == image.channels
    require(right, "model.channels", config.channels, f"the pictures' {image.channels}")
    require(image.height == HEIGHT, "preprocessing.height", image.height, f"{HEIGHT} pixels")
    right = number(stated.temperature) and stated.temperature > 0
    require(right, "temperature", stated.temperature, "a finite number above 0")
    require(type(stated.emits_unknown) is bool, "emit_unknown", stated.emits_unknown, "true, false")
    if config.num_classes != stated.charset.num_classes:
        raise UserError(
            f"a network of {config.num_classes} classes and a table of {stated.charset.num_classes}"
        )


def _check_weights(variables: dict[str, Any], config: ModelConfig) -> None:
    arrays = flatten(variables)
    for key, shape in expected_shapes(config).items():
        if key not in arrays:
            raise UserError(f"its weights do not fit its network: {key} is missing")
        if np.shape(arrays[key]) != shape:
            found = list(np.shape(arrays[key]))
            raise UserError(
                f"its weights do not fit its network: {key} has shape {found}, not {list(shape)}"
            )
        if not np.isfinite(arrays[key]).all():
            raise UserError(f"{key} holds numbers that are not finite")
        if key.endswith("/var") and np.min(arrays[key]) < 0:
            raise UserError(f"{key} holds a negative variance")
