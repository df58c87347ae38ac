"""The model file: one `.safetensors` that holds all that is needed to read an image.

    save_model('word.safetensors', variables, metadata)
    variables, metadata = load_model('word.safetensors')

Arrays are named by their path, 'params/conv1/kernel'. The metadata is one JSON object:

    {"format": 1, "model": ModelConfig, "charset": [...], "blank_id": .., "unknown_id": ..,
     "ignore_case": .., "emit_unknown": .., "preprocessing": Preprocessing, "temperature": 1.0,
     "views": false, "training": {whatever is worth knowing about how it was made}}

"views" may be missing: a model is read in several views only where its file says so.
Keys that this version does not know are kept.
"""

import hashlib
import json
import os
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import open_file, whole_file

FORMAT = 1
_OURS = "crnn_jax"  # names of the two strings in the file's own metadata
_SHA256 = "sha256"

Variables = dict[str, Any]  # {'params': nested dicts of arrays, 'batch_stats': ...}


def save_model(
    path: str | os.PathLike[str],
    variables: Variables,
    metadata: dict[str, Any],
    *,
    float16: bool = False,
) -> None:
    """Writes a model file, all of it or nothing.

    Args:
        variables: {'params', 'batch_stats'}, nested dictionaries of float arrays.
        metadata: JSON values, see the top of this module; 'format' is put in.
        float16: stores the parameters in half precision, half the size; statistics stay float32
            (a variance may exceed what a half can hold). Both are read back as float32.

    Raises:
        UserError: the file cannot be written, or a parameter exceeds float16.
    """
    arrays = {}
    for name, array in flatten(variables).items():
        half = float16 and name.startswith("params/")
        with np.errstate(over="ignore"):  # checked below
            arrays[name] = np.asarray(array).astype(np.float16 if half else np.float32)
        if half and not np.isfinite(arrays[name]).all():
            raise UserError(f"{os.fspath(path)}: {name} is too large for float16; store float32")
    text = json.dumps(metadata | {"format": FORMAT}, ensure_ascii=False, allow_nan=False)
    write_safetensors(path, arrays, {_OURS: text, _SHA256: _digest(arrays, text)})


def load_model(path: str | os.PathLike[str]) -> tuple[Variables, dict[str, Any]]:
    """Reads a model file (a training run's workdir is opened by `loaded_model.open_model`).

    Returns:
        (variables: nested dictionaries of float32 NumPy arrays, metadata).

    Raises:
        UserError: nothing is there, it is damaged, or it is of a format number unknown here.
    """
    name = os.fspath(path)
    arrays, strings = read_safetensors(path)
    if _OURS not in strings:
        raise UserError(
            f"{name}: holds weights but not what they mean; import_weights makes a "
            "model file of another CRNN's weights"
        )
    try:
        metadata = json.loads(strings[_OURS])
        number = metadata["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{name}: damaged: its metadata cannot be read: {error}") from error
    if number != FORMAT:
        raise UserError(f"{name}: format {number!r} of a newer crnn_jax; this one reads {FORMAT}")
    # With a flipped bit the model would only read worse: nobody would notice.
    if strings.get(_SHA256) != _digest(arrays, strings[_OURS]):
        raise UserError(f"{name}: damaged: its contents do not match their checksum")
    return unflatten({k: np.asarray(v, np.float32) for k, v in arrays.items()}), metadata


def write_safetensors(
    path: str | os.PathLike[str], arrays: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Writes arrays and strings by name; the same ones always give the same bytes."""
    # The package ignores an array's strides.
    data = safetensors.numpy.save({k: np.asarray(v, order="C") for k, v in arrays.items()})
    # The package's order of metadata differs from process to process.
    start = 8 + int.from_bytes(data[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items()))} | json.loads(data[8:start])
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # arrays start at a multiple of 8, as the format asks
    with whole_file(path, "wb") as file:
        file.writelines([len(text).to_bytes(8, "little"), text, memoryview(data)[start:]])


def read_safetensors(
    path: str | os.PathLike[str],
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(arrays, metadata) by name. Raises UserError where the file is missing or damaged."""
    name = os.fspath(path)
    open_file(path).close()  # for a better message than the package's
    try:
        with safetensors.safe_open(name, "numpy") as file:
            keys = file.keys()
            return {key: file.get_tensor(key) for key in keys}, file.metadata() or {}
    except (safetensors.SafetensorError, TypeError) as error:  # TypeError: a dtype NumPy lacks
        raise UserError(f"{name}: no safetensors file, or a damaged one: {error}") from error


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'params': {'conv1': {'kernel': x}}} -> {'params/conv1/kernel': x}."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}/"))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def unflatten(flat: dict[str, Any]) -> dict[str, Any]:
    """The opposite of `flatten`."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *folders, leaf = name.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = value
    return tree


def _digest(arrays: dict[str, np.ndarray], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
