"""crnn.pytorch's weights: a state_dict in a `.pth` or `.safetensors` file. PyTorch is not needed.

tensors = read_pth('crnn.pth')
network = from_state_dict(tensors, 'crnn.pth')

A `.pth` is a zip archive of a pickle and one file a storage. `_Unpickler` resolves only the names
that tensors need, so loading runs no code of the file.
"""

import collections
import functools
import io
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.importing.network import CONVOLUTIONS, NORMS, Layers, Network

EPSILON = 1e-5  # of PyTorch's batch norm; crnn.pytorch does not set it
WIDTH = 100  # pixels to which crnn.pytorch stretches every image
# Strings, not dtype objects: a pickle may call methods of what `find_class` returns.
_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
# What damaged archives and pickles raise; RuntimeError: an archive with a password.
_WRONG_PICKLE = (pickle.UnpicklingError, AttributeError, LookupError, TypeError, ValueError)
_WRONG_ZIP = (zipfile.BadZipFile, struct.error, EOFError, OSError, OverflowError, RuntimeError)


class _Tensor(NamedTuple):
    storage: tuple[str, str]  # dtype, key of the file
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


_ALLOWED: dict[str, Any] = {
    "collections.OrderedDict": collections.OrderedDict,
    "torch._utils._rebuild_tensor_v2": lambda *arguments: _Tensor(*arguments[:4]),
    **{f"torch.{name}": dtype for name, dtype in _DTYPES.items()},
}


class _Unpickler(pickle._Unpickler):
    """Loads tensors and plain values; any other name that a pickle imports ends the loading.

    The Unpickler in Python: the one in C allocates whatever memory a memo's index asks for.
    """

    def find_class(self, module: str, name: str) -> Any:
        """The object of an allowed name."""
        if f"{module}.{name}" not in _ALLOWED:
            raise UserError(
                f"its pickle imports {module}.{name}, which is not allowed; "
                "save only tensors: torch.save(model.state_dict(), FILE)"
            )
        return _ALLOWED[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        """('storage', dtype, key, device, length) -> where the numbers are."""
        _, dtype, key, *_ = pid
        return str(dtype), str(key)


def read_pth(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Every tensor of a state_dict, or of a checkpoint that holds one among numbers and strings.

    Returns:
        Name -> array; of nested dictionaries 'state_dict/cnn.conv0.weight'.
    """
    name = os.fspath(path)
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl"]
            if len(pickles) != 1:
                raise UserError(
                    "not an archive of PyTorch; of a .keras file save the weights: "
                    'keras.models.load_model(FILE).save_weights("model.weights.h5")'
                )
            folder = pickles[0].removesuffix("data.pkl")
            tree = _Unpickler(io.BytesIO(archive.read(pickles[0]))).load()
            tensors = dict(_tensors(tree))
            keys = {tensor.storage[1] for tensor in tensors.values()}
            storages = {key: archive.read(f"{folder}data/{key}") for key in keys}
        return {key: _array(tensor, storages) for key, tensor in tensors.items()}
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except (*_WRONG_PICKLE, *_WRONG_ZIP, MemoryError) as error:
        raise UserError(f"{name}: damaged or cut short: {error}") from error


def _tensors(tree: Any, prefix: str = "", depth: int = 4) -> Iterator[tuple[str, _Tensor]]:
    """Every tensor of nested dictionaries, by its path."""
    for key, value in tree.items():
        if isinstance(value, _Tensor):
            yield f"{prefix}{key}", value
        elif isinstance(value, dict) and depth:
            yield from _tensors(value, f"{prefix}{key}/", depth - 1)


def _array(tensor: _Tensor, storages: dict[str, bytes]) -> np.ndarray:
    dtype, block = np.dtype(tensor.storage[0]), storages[tensor.storage[1]]
    if dtype.kind not in "fiub" or math.prod(tensor.size) * dtype.itemsize > len(block):
        raise ValueError(f"a tensor of size {tensor.size} in {len(block)} bytes")
    strides = [step * dtype.itemsize for step in tensor.stride]
    # NumPy checks that offset and strides stay inside the block.
    return np.ndarray(tensor.size, dtype, block, tensor.offset * dtype.itemsize, strides)


_FIRST = "cnn.conv0.weight"
_AXES = {2: (1, 0), 4: (2, 3, 1, 0)}  # rank -> ours of PyTorch's, which has outputs first
# Role of ours -> the tensors whose sum it is.
_Roles = dict[str, tuple[str, ...]]
_WEIGHTS: _Roles = {"kernel": ("weight",), "bias": ("bias",)}
_NORM: _Roles = {
    "gamma": ("weight",),
    "beta": ("bias",),
    "moving_mean": ("running_mean",),
    "moving_variance": ("running_var",),
}
_LSTM: _Roles = {
    f"{direction}/{role}": tuple(f"{name}_{end}" for name in names)
    for direction, end in (("forward", "l0"), ("backward", "l0_reverse"))
    for role, names in (
        ("kernel", ("weight_ih",)),
        ("recurrent_kernel", ("weight_hh",)),
        ("bias", ("bias_ih", "bias_hh")),
    )
}
# Layer of ours -> (crnn.pytorch's, roles).
_LAYERS: dict[str, tuple[str, _Roles]] = {
    **{name: (f"cnn.conv{i}", _WEIGHTS) for i, name in enumerate(CONVOLUTIONS)},
    **{name: (f"cnn.batchnorm{int(name[2:]) - 1}", _NORM) for name in NORMS},
    **{f"bi_lstm{i + 1}": (f"rnn.{i}.rnn", _LSTM) for i in range(2)},
    "projection": ("rnn.0.embedding", _WEIGHTS),
    "logits": ("rnn.1.embedding", _WEIGHTS),
}


def from_state_dict(tensors: dict[str, np.ndarray], name: str) -> Network:
    """Puts crnn.pytorch's tensors of the file `name` under our layers' names.

    A common prefix ('module.', 'state_dict/') is ignored.
    """
    starts = [key.removesuffix(_FIRST) for key in tensors if key.endswith(_FIRST)]
    if not starts:
        some = ", ".join(list(tensors)[:3]) or "no tensors"
        raise UserError(f"{name}: no {_FIRST}; a crnn.pytorch state_dict has it (found: {some})")
    prefix = min(starts, key=len)  # a copy, such as an optimizer's, has a longer one
    layers: Layers = {}
    used: list[str] = []
    try:
        for layer, (theirs, roles) in _LAYERS.items():
            layers[layer] = {}
            for role, names in roles.items():
                keys = [f"{prefix}{theirs}.{key}" for key in names]
                used += keys
                array = functools.reduce(np.add, [tensors[key] for key in keys])
                layers[layer][role] = array.transpose(_AXES.get(array.ndim))
    except KeyError as error:
        raise UserError(f"{name}: no tensor {error}; this is another network") from error
    except ValueError as error:  # biases of two lengths
        raise UserError(f"{name}: {used[-1]} has a shape that does not fit: {error}") from error
    unused = sorted(set(tensors) - set(used))
    epsilon = dict.fromkeys(NORMS, EPSILON)
    return Network(
        "crnn.pytorch", layers, "torch", epsilon, 127.5, 127.5, WIDTH, used=used, unused=unused
    )
