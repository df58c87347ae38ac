"""From a file of another CRNN's weights to what a model file holds.

    imported = import_weights('crnn.pth', alphabet='0123456789abcdefghijklmnopqrstuvwxyz')
    save_model('crnn.safetensors', imported.variables, imported.metadata)

The format is found from the content. No code of the file is run, whatever it is; it is read in a
process of its own, which is ended after two minutes (`foreign_file`).
"""

import dataclasses
import os
from typing import Any

import numpy as np

from crnn_jax.core.charset import BLANK, Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.geometry import min_image_width
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.importing import keras_config, keras_layers, torch_layers
from crnn_jax.importing.foreign_file import read_apart
from crnn_jax.importing.imported import Network, assemble
from crnn_jax.models.config import ModelConfig
from crnn_jax.reading.loaded_model import ModelSpec

TORCH_WIDTH = 100  # pixels to which crnn.pytorch stretches every picture


@dataclasses.dataclass(frozen=True)
class Imported:
    """A model, and what became of the file's arrays.

    Attributes:
        variables, metadata: what `core.model_file.save_model` takes.
        source: 'CRNN.tf2' or 'crnn.pytorch'.
        used, unused: names of the file's arrays.
        notes: what the file did not say and was taken to be so.
    """

    variables: dict[str, Any]
    metadata: dict[str, Any]
    source: str
    used: list[str]
    unused: list[str]
    notes: list[str]


def import_weights(
    path: str | os.PathLike[str],
    *,
    table: str | os.PathLike[str] | None = None,
    alphabet: str | None = None,
    ignore_case: bool | None = None,
    width: int | None = None,
) -> Imported:
    """Reads another CRNN's weights.

    Args:
        path: `.h5`, `.weights.h5`, `.keras`, a SavedModel's folder, `.pth` or `.safetensors`.
        table: CRNN.tf2's table file; a line is a class.
        alphabet: or the characters in the order of their classes, the blank left out: CRNN.tf2
            has it last, crnn.pytorch first.
        ignore_case: labels were folded to one case; None: where the characters have only one.
        width: of the network's input in pixels, 0 for free width; None: as the source has it.

    Raises:
        UserError: damaged, of another network, or not of so many characters.
    """
    name = os.fspath(path)
    if (table is None) == (alphabet is None):
        raise UserError("which characters? give a table file (--table) or an --alphabet")
    network, source, used, unused, notes, own_width = _read(name)
    variables, config = assemble(network, name)
    charset = _charset(table, alphabet, source, ignore_case)
    if charset.num_classes != config.num_classes:
        where = os.fspath(table) if table is not None else "the alphabet"
        raise UserError(
            f"{where}: {charset.num_classes} classes with the blank; the network of {name} has "
            f"{config.num_classes}"
        )
    if source == "crnn.pytorch" and charset.blank_id != 0:
        raise UserError(
            f"{table}: the blank is class {charset.blank_id}, crnn.pytorch's is 0: move its line "
            "to the top"
        )
    preprocessing = _preprocessing(source, config, own_width if width is None else width)
    metadata = {
        "model": config.to_dict(),
        **charset.to_metadata(),
        "preprocessing": preprocessing.to_metadata(),
        "temperature": 1.0,
        "emit_unknown": False,
        "training": {"imported_from": os.path.basename(name.rstrip("/")), "source": source},
    }
    ModelSpec.of(variables, metadata, name)
    return Imported(variables, metadata, source, used, unused, notes)


def _read(name: str) -> tuple[Network, str, list[str], list[str], list[str], int]:
    held = read_apart(name)
    if held.program == "CRNN.tf2":
        return _from_keras(held.arrays, held.config, name)
    tensors = dict(held.arrays)
    network, used = torch_layers.name_tensors(tensors, name)
    unused = sorted(set(tensors) - set(used))
    return network, held.program, used, unused, [], TORCH_WIDTH


def _from_keras(
    weights: list[tuple[str, np.ndarray]], config: dict[str, Any] | None, name: str
) -> tuple[Network, str, list[str], list[str], list[str], int]:
    all_layers, unused = keras_layers.collect(weights, name)
    layers, found = keras_layers.name_layers(all_layers, name)
    described = keras_config.describe(config, name)
    notes = []
    if config is None:
        notes.append(f"batch norm's epsilon is not stated: {keras_config.KERAS_EPSILON}, Keras's")
        if "projection" in layers:
            raise UserError(f"{name}: weights of a layer `projection`; give the whole model's .h5")
    if not described.normalises:
        notes.append("pictures are normalised as CRNN.tf2 does: x / 255")
    network = Network(
        layers, described.geometry, described.epsilon, described.mean, described.scale
    )
    theirs = {layer: set(roles) for layer, roles in all_layers.items()}
    used = [f"{found[layer]}/{role}" for layer, roles in layers.items() for role in roles]
    rest = {f"{layer}/{role}" for layer, roles in theirs.items() for role in roles} - set(used)
    return network, "CRNN.tf2", used, sorted(rest) + unused, notes, described.width


def _charset(
    table: str | os.PathLike[str] | None,
    alphabet: str | None,
    source: str,
    ignore_case: bool | None,
) -> Charset:
    if table is not None:
        charset = Charset.read(table)
    elif source == "crnn.pytorch":
        charset = Charset((BLANK, *(alphabet or "")), 0)
    else:
        charset = Charset.from_characters(alphabet or "")
    if ignore_case is None:
        cased = [c for c in charset.characters if c.lower() != c.upper()]
        ignore_case = bool(cased) and (
            all(c == c.lower() for c in cased) or all(c == c.upper() for c in cased)
        )
    return dataclasses.replace(charset, ignore_case=ignore_case)


def _preprocessing(source: str, config: ModelConfig, width: int) -> Preprocessing:
    shared: dict[str, Any] = {
        "channels": config.channels,
        "width": width,
        "min_width": min_image_width(config.geometry),
        "mean": config.mean,
        "scale": config.scale,
    }
    if source == "crnn.pytorch":
        return Preprocessing(**shared)
    # tf.image.resize looks at the nearest pixels only; CRNN.tf2 cuts the width to whole pixels.
    return Preprocessing(**shared, rounding="floor", antialias=False)
