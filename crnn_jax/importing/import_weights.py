"""From a file of another program's weights to what a model file holds.

    imported = import_weights('crnn.pth', alphabet='0123456789abcdefghijklmnopqrstuvwxyz')
    save_model('crnn.safetensors', imported.variables, imported.metadata)

The format is found from the content. Reading runs no code of the file.
"""

import dataclasses
import os
from typing import Any, NamedTuple

from crnn_jax.core.charset import BLANK, Charset, nfc
from crnn_jax.core.errors import UserError
from crnn_jax.core.files import open_file
from crnn_jax.core.geometry import min_image_width
from crnn_jax.core.model_file import read_safetensors
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.importing import keras, torch
from crnn_jax.importing.network import Network, assemble
from crnn_jax.reading.loaded_model import LoadedModel


class Imported(NamedTuple):
    """What `core.model_file.save_model` takes, and the network it was made from."""

    variables: dict[str, Any]
    metadata: dict[str, Any]
    network: Network


def import_weights(
    path: str | os.PathLike[str],
    *,
    table: str | os.PathLike[str] | None = None,
    alphabet: str | None = None,
    ignore_case: bool | None = None,
    width: int | None = None,
) -> Imported:
    """Reads another program's CRNN; options as of the command.

    `alphabet` is without the blank, which CRNN.tf2 has last and crnn.pytorch first. By default case
    is ignored if the characters have only one, and `width` is the source's.
    """
    name = os.fspath(path)
    if (table is None) == (alphabet is None):
        raise UserError("which characters? give a table file (--table) or an --alphabet")
    network = read_network(name)
    is_torch = network.source == "crnn.pytorch"
    variables, config = assemble(network, name)
    if table is not None:
        charset = Charset.read(table)
    elif is_torch:
        charset = Charset((BLANK, *nfc(alphabet or "")), 0)
    else:
        charset = Charset.from_characters(alphabet or "")
    where = os.fspath(table or "the alphabet")
    if charset.num_classes != config.num_classes:
        raise UserError(
            f"{where}: {charset.num_classes} classes with the blank; the network of {name} has "
            f"{config.num_classes}"
        )
    if is_torch and charset.blank_id != 0:
        raise UserError(
            f"{where}: the blank is class {charset.blank_id}, crnn.pytorch's is 0: move its line "
            "to the top"
        )
    if ignore_case is None:
        cased = "".join(c for c in charset.characters if c.lower() != c.upper())
        ignore_case = cased.islower() or cased.isupper()
    charset = dataclasses.replace(charset, ignore_case=ignore_case)
    preprocessing = Preprocessing().to_metadata() | {
        "channels": config.channels,
        "width": network.width if width is None else width,
        "min_width": min_image_width(config.geometry),
        "mean": config.mean,
        "scale": config.scale,
    }
    if not is_torch:  # tf.image.resize samples the nearest pixels only; CRNN.tf2 rounds down
        preprocessing |= {"rounding": "floor", "antialias": False}
    metadata = {
        "model": config.to_dict(),
        **charset.to_metadata(),
        "preprocessing": preprocessing,
        "temperature": 1.0,
        "emit_unknown": False,
        "training": {"imported_from": os.path.basename(name), "source": network.source},
    }
    LoadedModel.of(variables, metadata, name)  # checks every shape and value
    return Imported(variables, metadata, network)


def read_network(path: str | os.PathLike[str]) -> Network:
    """Reads a file of any of the formats."""
    name = os.fspath(path)
    with open_file(name) as file:
        start = file.read(9)
    if start[:4] == b"\x89HDF":
        return keras.read_h5(name)
    if start[8:9] == b"{":
        tensors, metadata = read_safetensors(name)
        if "crnn_jax" in metadata:
            raise UserError(f"{name}: is a model file already")
        return torch.from_state_dict(tensors, name)
    if start[:2] == b"PK":
        return torch.from_state_dict(torch.read_pth(name), name)
    if start[:1] == b"\x80":
        raise UserError(
            f"{name}: a bare pickle, as PyTorch before 1.6 wrote it; in PyTorch: "
            "torch.save(torch.load(FILE), NEW_FILE)"
        )
    raise UserError(f"{name}: neither .h5, .pth nor .safetensors")
