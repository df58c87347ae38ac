"""Weights in HDF5 files, as Keras 2 and 3 write them, and in `.keras` archives. No Keras needed.

Three layouts: whole models (a group `model_weights` and the attribute `model_config`), weights (the
same group at the top), and Keras 3's `.weights.h5` (`layers/<kind>/vars/0`, which is also what a
`.keras` archive holds beside `config.json`).
"""

import io
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.strict_json import parse_json
from crnn_jax.importing.keras_names import natural

MAX_BYTES = 1 << 31  # of one array; a damaged header may state any size
MAX_CONFIG = 1 << 24  # bytes of a network's description; a CRNN's has 20,000
_DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError)
_BROKEN_ZIP = (zipfile.BadZipFile, struct.error, EOFError, zlib.error, lzma.LZMAError)
# Order of a layer's unnamed variables in Keras 3, by their number.
_UNNAMED = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    3: ("kernel", "recurrent_kernel", "bias"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}

Content = tuple[list[tuple[str, np.ndarray]], dict[str, Any] | None]


def read_h5(path: str | os.PathLike[str]) -> Content:
    """Reads a file of weights or of a whole model.

    Returns:
        (path and array of every weight, in the order of the network; the model's description, None
        where the file has none).

    Raises:
        UserError: no such file, damaged, cut short, or h5py is not installed.
    """
    return _read(os.fspath(path), os.fspath(path))


def read_keras_archive(path: str | os.PathLike[str]) -> Content:
    """The same of a Keras 3 `.keras` file. Its Python objects are not made: only arrays are read.

    Raises:
        UserError: as `read_h5`.
    """
    name = os.fspath(path)
    try:
        with zipfile.ZipFile(path) as archive:
            content = _member(archive, "model.weights.h5", MAX_BYTES, name)
            config = parse_json(_member(archive, "config.json", MAX_CONFIG, name))
    except (*_BROKEN_ZIP, *_DAMAGED) as error:
        raise UserError(f"{name}: no Keras archive, or damaged") from error
    return _read(io.BytesIO(content), name)[0], config


def _member(archive: zipfile.ZipFile, member: str, limit: int, name: str) -> bytes:
    size = archive.getinfo(member).file_size  # no more is unpacked, whatever follows
    if size > limit:
        raise UserError(f"{name}: too large: {member} states {size:,} bytes, at most {limit:,}")
    return archive.read(member)


def _read(file: Any, name: str) -> Content:
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{name}: reading it needs h5py: pip install h5py") from error
    try:
        with h5py.File(file, "r") as opened:
            config = opened.attrs.get("model_config")
            top = opened.get("model_weights", opened)
            if "layer_names" in top.attrs:
                weights = list(_named(h5py, top))
            elif "layers" in top:
                weights = list(_numbered(h5py, top["layers"]))
            else:
                raise UserError(f"{name}: an HDF5 file without Keras's layers")
            return weights, None if config is None else parse_json(config)
    except FileNotFoundError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror}") from error
    except _DAMAGED as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{name}: damaged or cut short: {reason}") from error


def _named(h5py: Any, top: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Keras 2's layout, by the lists of names: HDF5 itself knows the alphabet only."""
    for layer in map(_text, top.attrs["layer_names"]):
        group = top[layer]
        for weight in map(_text, group.attrs["weight_names"]):
            # A list may say 'bias:0' of a layer that is named by its group alone.
            path = weight if "/" in weight else f"{layer}/{weight}"
            yield path, _array(h5py, top.file, group[weight])


def _numbered(h5py: Any, layers: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Keras 3's layout: the class and a number, the layer's own name in an attribute."""
    for key in sorted(layers, key=natural):
        own = layers[key]["vars"].attrs.get("name") if "vars" in layers[key] else None
        layer = key if own is None else _text(own)
        for direction in ("", "forward_layer", "backward_layer"):
            folder = f"{direction}/cell/vars" if direction else "vars"
            arrays = layers[key].get(folder, {})
            count = len(arrays)
            roles = _UNNAMED.get(count, tuple(map(str, range(count))))
            for place, role in enumerate(roles):
                path = f"{layer}/{direction}/{role}" if direction else f"{layer}/{role}"
                yield path, _array(h5py, layers.file, arrays[str(place)])


def _array(h5py: Any, file: Any, dataset: Any) -> np.ndarray:
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError("a folder where an array should be")
    elsewhere = dataset.file.filename != file.filename  # by a link
    if elsewhere or dataset.external or dataset.is_virtual:
        raise ValueError("an array that lies in another file")
    if dataset.size * max(dataset.dtype.itemsize, 1) > MAX_BYTES:
        raise ValueError(f"an array of shape {dataset.shape}")
    return np.asarray(dataset[()])


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
