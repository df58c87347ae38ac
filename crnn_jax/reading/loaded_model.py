"""A model: the file, workdir or name that a user gives, and what it states, parsed and checked.

    model = LoadedModel.open('en_36')
    model.config, model.variables, model.charset, model.preprocessing

A file is sound by its checksum and may still say anything: a table of other characters than the
network has classes, a loop unrolled a billion times, weights of another network. That is told
before anything is compiled or computed.
"""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from crnn_jax.core.charset import REPLACEMENT, Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.geometry import GEOMETRIES
from crnn_jax.core.model_file import flatten, load_model
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.models.config import DTYPES, ModelConfig
from crnn_jax.models.crnn import NORMALISED

WORKDIR_MODEL = "model.safetensors"  # of the best evaluation so far
WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
SHIPPED = str(WEIGHTS / "en_36.safetensors")  # what is read with where no model is named

HEIGHT = 32  # pixels; the network's pools and last convolution make one row of them
CONVOLUTIONS = 7
MAX_UNROLL = 256  # steps; each is compiled

Shapes = dict[str, tuple[int, ...]]


def open_model(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables and metadata of a model.

    Args:
        path: of a `.safetensors` file or a workdir; or 'en_36' or 'en_94', the models that ship.

    Returns:
        (variables: nested dictionaries of float32 NumPy arrays, metadata), as `load_model`.

    Raises:
        UserError: nothing is there, or it is damaged.
    """
    if not os.path.exists(path) and (WEIGHTS / f"{os.fspath(path)}.safetensors").exists():
        return load_model(WEIGHTS / f"{os.fspath(path)}.safetensors")
    if not os.path.isdir(path):
        return load_model(path)
    best = os.path.join(path, WORKDIR_MODEL)
    if os.path.exists(best):
        return load_model(best)
    if not os.path.isdir(os.path.join(path, "checkpoints")):
        raise UserError(
            f"{os.fspath(path)}: a folder without checkpoints; a model is a .safetensors file or "
            "the workdir of a training run"
        )
    from crnn_jax.reading.checkpoint import read_variables

    return read_variables(path)


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """What a model's metadata state.

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
    def of(cls, variables: dict[str, Any], metadata: dict[str, Any], name: str) -> "ModelSpec":
        """Parses and checks what `open_model` returns; `name` is what errors call the model.

        Raises:
            UserError: the metadata make no sense, contradict each other or the weights.
        """
        try:
            spec = cls(
                ModelConfig.from_metadata(metadata),
                Charset.from_metadata(metadata),
                Preprocessing.from_metadata(metadata["preprocessing"]),
                metadata.get("temperature", 1.0),
                metadata.get("emit_unknown", False),
            )
            _check_values(spec)
            _check_weights(variables, spec.config)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise UserError(f"{name}: its metadata cannot be used: {error}") from error
        return spec


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A model as exports take it: everything that its file holds.

    Attributes:
        name: what errors call it.
        variables: {'params', 'batch_stats'}, nested dictionaries of float32 NumPy arrays.
        metadata: of the file, as it is.
        config, charset, preprocessing, temperature: what the metadata say, parsed; the network
            computes in float32.
        unknown_id: the class that no decoder may emit; -1 where all may be.
    """

    name: str
    variables: dict[str, Any]
    metadata: dict[str, Any]
    config: ModelConfig
    charset: Charset
    preprocessing: Preprocessing
    temperature: float
    unknown_id: int

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None = None) -> "LoadedModel":
        """Opens a model file or workdir, or the model that ships.

        Raises:
            UserError: it is not there, is damaged, or contradicts itself.
        """
        name = os.fspath(SHIPPED if path is None else path)
        return cls.of(*open_model(name), name)

    @classmethod
    def of(
        cls, variables: dict[str, Any], metadata: dict[str, Any], name: str = "model"
    ) -> "LoadedModel":
        """What `open_model` returns, with its metadata parsed; raises as `open`."""
        spec = ModelSpec.of(variables, metadata, name)
        return cls(
            name,
            variables,
            metadata,
            # What a GPU was trained in is not what other runtimes compute in.
            dataclasses.replace(spec.config, dtype="float32"),
            spec.charset,
            spec.preprocessing,
            float(spec.temperature),
            -1 if spec.emits_unknown else spec.charset.unknown_id,
        )

    @property
    def symbols(self) -> list[str]:
        """What each class writes: '' for the blank."""
        special = {self.charset.blank_id: "", self.charset.unknown_id: REPLACEMENT}
        return [special.get(i, symbol) for i, symbol in enumerate(self.charset.symbols)]


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


def _check_values(spec: ModelSpec) -> None:
    config, image = spec.config, spec.preprocessing

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
    right = number(spec.temperature) and spec.temperature > 0
    require(right, "temperature", spec.temperature, "a finite number above 0")
    require(type(spec.emits_unknown) is bool, "emit_unknown", spec.emits_unknown, "true, false")
    if config.num_classes != spec.charset.num_classes:
        raise UserError(
            f"a network of {config.num_classes} classes and a table of {spec.charset.num_classes}"
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
