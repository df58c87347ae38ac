"""A model: the file, workdir or name that a user gives, parsed and checked.

    model = LoadedModel.open('en_36')
    model.config, model.variables, model.charset, model.preprocessing

A file is sound by its checksum and may still say anything: that is told before anything is
compiled or computed.
"""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from crnn_jax.core.charset import REPLACEMENT, Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.geometry import GEOMETRIES, HEIGHT
from crnn_jax.core.model_file import flatten, load_model
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.decoding.greedy import Spelling
from crnn_jax.models.config import DTYPES, MAX_UNROLL, ModelConfig
from crnn_jax.models.crnn import NORMALISED

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
SHIPPED = str(WEIGHTS / "en_36.safetensors")  # what is read with where no model is named

CONVOLUTIONS = 7


def open_model(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables and metadata, as `load_model`, of a file, a workdir, or a model that ships."""
    found = model_path(path)
    if os.path.isdir(found):
        from crnn_jax.reading.checkpoint import read_variables

        return read_variables(found)
    return load_model(found)


def model_path(path: str | os.PathLike[str]) -> str:
    """The file that is opened; the workdir itself where that has checkpoints alone.

    Raises:
        UserError: there is no such model.
    """
    name = os.fspath(path)
    if os.path.isfile(name):
        return name
    if os.path.isdir(name):
        from crnn_jax.reading.checkpoint import WORKDIR_MODEL

        best = os.path.join(name, WORKDIR_MODEL)
        if os.path.exists(best):
            return best
        if os.path.isdir(os.path.join(name, "checkpoints")):
            return name
    # A folder of images may be called `lines` too.
    shipped = {file.stem: str(file) for file in sorted(WEIGHTS.glob("*.safetensors"))}
    if name in shipped:
        return shipped[name]
    if os.path.isdir(name):
        raise UserError(
            f"{name}: a folder without checkpoints; a model is a .safetensors file or "
            "the workdir of a training run"
        )
    raise UserError(
        f"{name}: no such model file or workdir; models that ship: {', '.join(shipped) or 'none'}"
    )


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A model: what its file holds, and what its metadata say, parsed and checked."""

    name: str  # what errors call it
    variables: dict[str, Any]  # {'params', 'batch_stats'}, nested, float32 NumPy arrays
    metadata: dict[str, Any]  # of the file, as it is
    config: ModelConfig  # computes in float32
    charset: Charset
    preprocessing: Preprocessing
    temperature: float  # of confidences, above 0
    emits_unknown: bool  # characters outside the table were trained as `<UNK>`
    views: bool  # unsure images are read in several views, see `reading.views`

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None = None) -> "LoadedModel":
        """Opens a model file or workdir, or the model that ships; raises UserError as `of`."""
        name = os.fspath(SHIPPED if path is None else path)
        return cls.of(*open_model(name), name)

    @classmethod
    def of(
        cls, variables: dict[str, Any], metadata: dict[str, Any], name: str = "model"
    ) -> "LoadedModel":
        """Parses what `open_model` returns; raises UserError where it contradicts itself."""
        try:
            model = cls(
                name,
                variables,
                metadata,
                ModelConfig.from_metadata(metadata),
                Charset.from_metadata(metadata),
                Preprocessing.from_metadata(metadata["preprocessing"]),
                metadata.get("temperature", 1.0),
                metadata.get("emit_unknown", False),
                metadata.get("views", False),
            )
            _check_values(model)
            _check_weights(variables, model.config)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise UserError(f"{name}: its metadata cannot be used: {error}") from error
        # What a GPU was trained in is not what other runtimes compute in.
        config = dataclasses.replace(model.config, dtype="float32")
        return dataclasses.replace(model, config=config, temperature=float(model.temperature))

    @property
    def unknown_id(self) -> int:
        """The class that no decoder may emit; -1 where all may be."""
        return -1 if self.emits_unknown else self.charset.unknown_id

    @property
    def spelling(self) -> Spelling:
        """How spaces and alphabets may stand in a text."""
        return Spelling.of(self.charset)

    @property
    def symbols(self) -> list[str]:
        """What each class writes: '' for the blank."""
        special = {self.charset.blank_id: "", self.charset.unknown_id: REPLACEMENT}
        return [special.get(i, symbol) for i, symbol in enumerate(self.charset.symbols)]


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Path -> shape of every array of a network."""
    shapes: dict[str, tuple[int, ...]] = {}

    def dense(name: str, before: int, after: int) -> None:
        shapes[f"params/{name}/kernel"] = (before, after)
        shapes[f"params/{name}/bias"] = (after,)

    def convolution(name: str, side: int, before: int, after: int, norm: str = "") -> None:
        shapes[f"params/{name}/kernel"] = (side, side, before, after)
        if norm:
            for path in ("params/{}/scale", "params/{}/bias", "batch_stats/{}/mean"):
                shapes[path.format(norm)] = (after,)
            shapes[f"batch_stats/{norm}/var"] = (after,)
        else:
            shapes[f"params/{name}/bias"] = (after,)

    before = config.channels
    for i, filters in enumerate(config.filters):
        side, norm = 2 if i == CONVOLUTIONS - 1 else 3, f"bn{i + 1}" if i in NORMALISED else ""
        convolution(f"conv{i + 1}", side, before, filters, norm)
        if i + 1 in config.residual:
            convolution(f"res{i + 1}a", 3, filters, filters, f"bn_res{i + 1}")
            convolution(f"res{i + 1}b", 3, filters, filters)
        before = filters
    for layer in ("bi_lstm1", "bi_lstm2"):
        for direction in ("forward", "backward"):
            dense(f"{layer}/{direction}", before, 4 * config.hidden)
            shape = (config.hidden, 4 * config.hidden)
            shapes[f"params/{layer}/{direction}/recurrent_kernel"] = shape
        before = 2 * config.hidden
        if config.geometry == "torch" and layer == "bi_lstm1":
            dense("projection", before, config.hidden)
            before = config.hidden
    dense("logits", before, config.num_classes)
    return shapes


def _check_values(model: LoadedModel) -> None:
    config, image = model.config, model.preprocessing

    def number(value: Any) -> bool:
        return type(value) in (int, float) and math.isfinite(value)

    sizes = (config.num_classes, config.hidden, *config.filters)
    whole = all(type(n) is int and n > 0 for n in sizes) and len(config.filters) == CONVOLUTIONS
    pairs = set(config.residual) <= set(range(1, CONVOLUTIONS))
    unroll = type(config.unroll) is int and 1 <= config.unroll <= MAX_UNROLL
    temperature = number(model.temperature) and model.temperature > 0
    for right, key, value, what in (
        (whole, "model", sizes, f"{CONVOLUTIONS} convolutions, their sizes whole numbers"),
        (pairs, "model.residual", config.residual, f"some of 1 to {CONVOLUTIONS - 1}"),
        (config.geometry in GEOMETRIES, "model.geometry", config.geometry, str(GEOMETRIES)),
        (config.dtype in DTYPES, "model.dtype", config.dtype, " | ".join(DTYPES)),
        (unroll, "model.unroll", config.unroll, f"1 to {MAX_UNROLL}"),
        (number(config.bn_epsilon), "model.bn_epsilon", config.bn_epsilon, "a finite number"),
        (number(config.bn_momentum), "model.bn_momentum", config.bn_momentum, "a finite number"),
        (config.channels == image.channels, "model.channels", config.channels, "the images'"),
        (image.height == HEIGHT, "preprocessing.height", image.height, f"{HEIGHT} pixels"),
        (temperature, "temperature", model.temperature, "a finite number above 0"),
        (type(model.emits_unknown) is bool, "emit_unknown", model.emits_unknown, "true or false"),
        (type(model.views) is bool, "views", model.views, "true or false"),
    ):
        if not right:
            raise UserError(f"{key}={repr(value)[:60]}: must be {what}")
    if config.num_classes != model.charset.num_classes:
        classes = model.charset.num_classes
        raise UserError(f"a network of {config.num_classes} classes and a table of {classes}")


def _check_weights(variables: dict[str, Any], config: ModelConfig) -> None:
    arrays = flatten(variables)
    for key, shape in expected_shapes(config).items():
        found = list(np.shape(arrays[key])) if key in arrays else "missing"
        if found != list(shape):
            raise UserError(
                f"its weights do not fit its network: {key} is {found}, not {list(shape)}"
            )
        if not np.isfinite(arrays[key]).all():
            raise UserError(f"{key} holds numbers that are not finite")
        if key.endswith("/var") and np.min(arrays[key]) < 0:
            raise UserError(f"{key} holds a negative variance")
