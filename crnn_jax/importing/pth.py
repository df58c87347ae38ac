"""Tensors out of PyTorch's `.pth` files, without PyTorch and without running what a file says.

Two formats: since PyTorch 1.6 a zip archive of one pickle and one file a storage; before, five
pickles one after the other and the storages behind them.
"""

import functools
import io
import itertools
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.user_files import open_file, read_bytes
from crnn_jax.importing.pickled import Storage, Tensor, read_pickle

_DTYPES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",  # NumPy has none: the upper half of a float32, see `_floats`
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# What `zipfile` raises of archives with wrong bytes; RuntimeError of ones with a password.
_BROKEN_ZIP = (
    zipfile.BadZipFile,
    struct.error,
    EOFError,
    KeyError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
MAX_BYTES = 1 << 31  # of a file, and of all its tensors; a checkpoint with its optimizer has 110 MB
MAX_VALUES = 5_000_000  # a checkpoint may hold the loss of every step
MAX_TENSORS = 100_000  # a CRNN has 46
MAX_NAME = 1000  # characters
_MAX_RANK = 8
_MAX_STEP = 1 << 40  # numbers; what is above is no network's size


def read_pth(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Every tensor of a file.

    Args:
        path: of a state_dict, or of a checkpoint that holds one among numbers and texts.

    Returns:
        Name -> array; of nested dictionaries 'state_dict/cnn.conv0.weight'.

    Raises:
        UserError: no such file, damaged, or it holds anything but tensors and plain values.
    """
    name = os.fspath(path)
    with open_file(path) as file:
        content = read_bytes(file, name, MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UserError(f"{name}: too large: over {MAX_BYTES:,} bytes")
    read = _read_zip if content[:2] == b"PK" else _read_legacy
    found, storages = read(content, name)
    tensors, size = {}, 0
    for key, tensor in found:
        try:
            tensors[key] = _view(tensor, storages)
            size += tensors[key].nbytes
            if size > MAX_BYTES:  # many tensors may be views of one storage
                raise ValueError(f"over {MAX_BYTES:,} bytes with those before it")
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            reason = error if isinstance(error, ValueError) else "not as PyTorch writes it"
            raise UserError(f"{name}: damaged: tensor {key}: {reason}") from error
    if not tensors:
        raise UserError(f"{name}: holds no tensors")
    return tensors


Found = tuple[list[tuple[str, Tensor]], Callable[[Storage], bytes]]


def _read_zip(content: bytes, name: str) -> Found:
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        pickles = [n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl"]
        # Stored as they are: nothing can unpack to more than the file holds.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise UserError(f"{name}: a compressed archive, which PyTorch does not write")
        if len(pickles) != 1:
            raise UserError(f"{name}: an archive, but none of PyTorch's")
        folder = pickles[0].removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order).strip() != b"little":
            raise UserError(f"{name}: written on a big-endian machine")
        tree = read_pickle(io.BytesIO(archive.read(pickles[0])), name)
    except _BROKEN_ZIP as error:
        raise UserError(f"{name}: damaged or cut short: a broken archive") from error

    @functools.cache
    def read(storage: Storage) -> bytes:
        try:
            return archive.read(f"{folder}data/{storage.key}")
        except _BROKEN_ZIP as error:
            raise ValueError(f"its numbers ({storage.key!r}) are missing or broken") from error

    return _tensors(tree, name), read


def _read_legacy(content: bytes, name: str) -> Found:
    file = io.BytesIO(content)
    if content[:1] != b"\x80" or read_pickle(file, name) != _LEGACY_MAGIC:
        raise UserError(f"{name}: no PyTorch file")
    read_pickle(file, name)  # version of the format
    system = read_pickle(file, name)
    if not (isinstance(system, dict) and system.get("little_endian", True)):
        raise UserError(f"{name}: written on a big-endian machine")
    tensors = _tensors(read_pickle(file, name), name)
    keys = read_pickle(file, name)
    storages = {tensor.storage.key: tensor.storage for _, tensor in tensors}
    blocks: dict[Any, bytes] = {}
    for key in keys if isinstance(keys, list) else []:
        storage = storages.get(key) if type(key) in (str, int) else None
        if storage is None or storage.kind not in _DTYPES:
            raise UserError(f"{name}: damaged: a storage that no tensor names")
        (length,) = np.frombuffer(file.read(8).ljust(8, b"\0"), "<i8").tolist()
        size = length * np.dtype(_DTYPES[storage.kind]).itemsize
        if length < 0 or size > len(content) - file.tell():
            raise UserError(f"{name}: damaged or cut short: the storage of {length} numbers")
        blocks[key] = file.read(size)
    return tensors, lambda storage: blocks[storage.key]


def _tensors(tree: Any, name: str) -> list[tuple[str, Tensor]]:
    """Tensors by their path; of lists too, which hold an optimizer's."""
    # A list of lists of one and the same list: short to write, but without end to walk.
    visits = itertools.count()

    def walk(value: Any, prefix: str, depth: int) -> Iterator[tuple[str, Tensor]]:
        if next(visits) > MAX_VALUES or len(prefix) > MAX_NAME:
            raise UserError(f"{name}: damaged: over {MAX_VALUES:,} values, or a name without end")
        if isinstance(value, Tensor) and isinstance(value.storage, Storage):
            yield prefix, value
        elif isinstance(value, dict | list | tuple) and depth < _MAX_RANK:
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                yield from walk(inner, f"{prefix}/{key}" if prefix else str(key), depth + 1)

    found = list(itertools.islice(walk(tree, "", 0), MAX_TENSORS + 1))
    if len(found) > MAX_TENSORS:
        raise UserError(f"{name}: damaged: over {MAX_TENSORS:,} tensors")
    return found


def _view(tensor: Tensor, storages: Callable[[Storage], bytes]) -> np.ndarray:
    """The numbers of a tensor, after a look at everything that it states about them."""
    storage = tensor.storage
    dtype = np.dtype(_DTYPES[storage.kind]).newbyteorder("<")
    flat = np.frombuffer(storages(storage), np.uint8)
    if flat.size != storage.length * dtype.itemsize:
        raise ValueError(f"{storage.length} numbers stated, {flat.size} bytes found")
    numbers = flat.view(dtype)
    size, stride, offset = tuple(tensor.size), tuple(tensor.stride), tensor.offset
    if len(size) != len(stride) or len(size) > _MAX_RANK:
        raise ValueError(f"{len(size)} axes and {len(stride)} strides")
    if any(type(n) is not int or not 0 <= n <= _MAX_STEP for n in (*size, *stride, offset)):
        raise ValueError("impossible sizes")
    count, last = 1, offset
    for n, step in zip(size, stride, strict=True):
        count *= n
        last += (n - 1) * step
    if count and (last >= numbers.size or count > numbers.size):
        raise ValueError(f"size {size} and stride {stride} reach beyond its {numbers.size} numbers")
    if not count:
        return np.zeros(size, np.float32)
    strides = [step * dtype.itemsize for step in stride]
    view = np.lib.stride_tricks.as_strided(numbers[offset:], size, strides, writeable=False)
    return _floats(view) if storage.kind == "BFloat16Storage" else view.copy()


def _floats(bfloat16: np.ndarray) -> np.ndarray:
    return (bfloat16.astype(np.uint32) << 16).view(np.float32)
