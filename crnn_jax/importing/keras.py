"""CRNN.tf2's weights: HDF5 files of Keras 2 and 3. h5py reads them, Keras is not needed.

network = read_h5('crnn.h5')

Three layouts: whole models (a group `model_weights` and the attribute `model_config`), weights (the
same group at the top), and Keras 3's `.weights.h5` (`layers/<class>/vars/0`). Layers have the names
of CRNN.tf2, or Keras's own (conv2d_3), which are matched by kind and order.
"""

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.importing.network import CONVOLUTIONS, NORMS, Layers, Network

EPSILON = 1e-3  # of Keras's batch norm, where the file does not say
_ROLES = {"kernel", "recurrent_kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"}
# Keras 3 numbers a layer's variables; their roles, by how many there are.
_NUMBERED = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    3: ("kernel", "recurrent_kernel", "bias"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}
# Kind of layer -> names in CRNN.tf2, in the order of the network.
_KINDS: dict[str, tuple[str, ...]] = {
    "convolution": CONVOLUTIONS,
    "batch norm": NORMS,
    "bidirectional LSTM": ("bi_lstm1", "bi_lstm2"),
    "dense layer": ("logits",),
}
_WITH_PROJECTION = ("projection", "logits")  # of our own geometry 'torch'

Weights = list[tuple[str, np.ndarray]]


def read_h5(path: str | os.PathLike[str]) -> Network:
    """Reads a file of weights or of a whole model."""
    name = os.fspath(path)
    weights, config = _read(name)
    found: Layers = {}
    unused = []
    for weight, array in weights:
        layer, role = split_path(weight)
        if role.rpartition("/")[2] not in _ROLES:
            unused.append(weight)
        elif role in found.setdefault(layer, {}):
            raise UserError(f"{name}: {weight} is a second {role} of layer {layer}")
        else:
            found[layer][role] = array
    names = _match_layers(found, name)
    facts = _facts(config, name)
    if config is None and "projection" in names:
        raise UserError(f"{name}: weights of a layer `projection`; give the whole model's .h5")
    layers = {ours: found[theirs] for ours, theirs in names.items()}
    used = [f"{theirs}/{role}" for theirs in names.values() for role in found[theirs]]
    paths = {f"{layer}/{role}" for layer, roles in found.items() for role in roles}
    unused = sorted(paths - set(used)) + unused
    return Network("CRNN.tf2", layers, **facts, used=used, unused=unused)


def split_path(path: str) -> tuple[str, str]:
    """Layer and role of a weight's path.

    'conv1/kernel:0' -> ('conv1', 'kernel');
    'bi_lstm1/forward_lstm/lstm_cell_1/bias' -> ('bi_lstm1', 'forward/bias').
    """
    *folders, leaf = path.partition(":")[0].split("/")
    for place, folder in enumerate(folders):
        direction, _, rest = folder.partition("_")
        if direction in ("forward", "backward"):
            return (folders[place - 1] if place else rest), f"{direction}/{leaf}"
    return (folders[-1] if folders else ""), leaf


def _read(name: str) -> tuple[Weights, Any]:
    """(path and array of every weight in the network's order, the model's config or None)."""
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{name}: reading it needs h5py: pip install h5py") from error
    try:
        with h5py.File(name, "r") as file:
            config = file.attrs.get("model_config")
            top = file.get("model_weights", file)
            if "layer_names" in top.attrs:
                weights = list(_named(top))
            elif "layers" in top:
                weights = list(_numbered(top["layers"]))
            else:
                raise UserError(f"{name}: an HDF5 file without Keras's layers")
            return weights, None if config is None else json.loads(config)
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{name}: damaged or cut short: {str(error)[:100]}") from error


def _named(top: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Keras 2's layout. The lists of names have the network's order, HDF5 the alphabet's."""
    for layer in map(_text, top.attrs["layer_names"]):
        group = top[layer]
        for weight in map(_text, group.attrs["weight_names"]):
            # The list may say 'bias:0' of a layer that only its group names.
            yield weight if "/" in weight else f"{layer}/{weight}", np.asarray(group[weight][()])


def _numbered(layers: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Keras 3's layout: class and number, the layer's own name in an attribute."""
    for key in sorted(layers, key=_natural):
        own = layers[key]["vars"].attrs.get("name") if "vars" in layers[key] else None
        layer = key if own is None else _text(own)
        for direction in ("", "forward_layer", "backward_layer"):
            folder = f"{direction}/cell/vars" if direction else "vars"
            arrays = layers[key].get(folder, {})
            roles = _NUMBERED.get(len(arrays), tuple(map(str, range(len(arrays)))))
            for place, role in enumerate(roles):
                path = f"{layer}/{direction}/{role}" if direction else f"{layer}/{role}"
                yield path, np.asarray(arrays[str(place)][()])


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _natural(name: str) -> list[Any]:
    """Sorts conv2d, conv2d_1, .. conv2d_9, conv2d_10 as Keras counted them."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]


def _match_layers(layers: Layers, name: str) -> dict[str, str]:
    """{our name: the file's name} of a CRNN's layers."""
    if all(ours in layers for ours in (*CONVOLUTIONS, *NORMS)):
        # Named by hand; further layers are not part of the network.
        known = (*CONVOLUTIONS, *NORMS, "bi_lstm1", "bi_lstm2", "projection", "logits")
        return {ours: ours for ours in known if ours in layers}
    found: dict[str, str] = {}
    for kind, ours in _KINDS.items():
        theirs = [layer for layer, roles in layers.items() if _kind(roles) == kind]
        if kind == "dense layer" and len(theirs) == 2:
            ours = _WITH_PROJECTION
        if len(theirs) != len(ours):
            raise UserError(
                f"{name}: {len(theirs)} of kind {kind} where a CRNN has {len(ours)}; "
                "this is another network"
            )
        found.update(zip(ours, theirs, strict=True))
    return found


def _kind(roles: dict[str, np.ndarray]) -> str | None:
    if "forward/kernel" in roles:
        return "bidirectional LSTM"
    if "moving_mean" in roles:
        return "batch norm"
    rank = roles["kernel"].ndim if "kernel" in roles else 0
    return {4: "convolution", 2: "dense layer"}.get(rank)


def _facts(config: Any, name: str) -> dict[str, Any]:
    """`Network`'s fields that `model_config` states; CRNN.tf2's values where there is none."""
    facts: dict[str, Any] = {
        "geometry": "keras",
        "epsilon": dict.fromkeys(NORMS, EPSILON),
        "mean": 0.0,
        "scale": 255.0,
        "width": 0,
        "notes": ["assumed: pictures are normalised as in CRNN.tf2, x / 255"],
    }
    if config is None:
        facts["notes"].append(f"assumed: batch norm's epsilon is {EPSILON}, Keras's default")
        return facts
    pools, epsilons, padded = [], [], False
    try:
        for kind, layer in _config_layers(config):
            at = f"{name}: layer {layer.get('name')}"
            if kind == "InputLayer":
                shape = layer.get("batch_shape") or layer["batch_input_shape"]
                if shape[1] != 32:
                    raise UserError(f"{at}: pictures of height {shape[1]}; a CRNN's are 32")
                facts["width"] = shape[2] or 0
            elif kind == "Rescaling":
                factor, offset = float(layer["scale"]), float(layer["offset"])
                if factor > 0.1:  # for values 0 to 1, or none at all
                    raise UserError(f"{at}: scales by {factor}; levels 0 to 255 are expected")
                # Nine digits: the inverse of a rounded 1 / 255 is 255 again.
                mean, scale = round(-offset / factor, 9) + 0.0, round(1 / factor, 9)
                facts |= {"mean": mean, "scale": scale, "notes": []}
            elif kind == "BatchNormalization":
                epsilons.append(float(layer["epsilon"]))
            elif kind in ("MaxPooling2D", "MaxPool2D"):
                pools.append((list(layer["pool_size"]), list(layer["strides"]), layer["padding"]))
            elif kind == "ZeroPadding2D":
                padded = True
            elif kind == "Bidirectional":
                if layer["layer"]["class_name"] != "LSTM":
                    raise UserError(f"{at}: holds no LSTM, but {layer['layer']['class_name']}")
                inner = layer["layer"]["config"]
                # Keras before 2.3 computed gates by 'hard_sigmoid' by default.
                for key, want in (("activation", "tanh"), ("recurrent_activation", "sigmoid")):
                    if inner.get(key, want) != want:
                        raise UserError(f"{at}: {key} is {inner[key]!r}, ours is {want!r}")
            elif kind in ("LeakyReLU", "PReLU", "ELU") or (
                kind in ("Conv2D", "Activation") and layer["activation"] not in ("linear", "relu")
            ):
                raise UserError(f"{at}: activation {layer.get('activation', kind)}; ours is relu")
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(f"{name}: its model_config cannot be used: {error!r}") from error
    wanted = [([2, 2], [2, stride], "valid" if padded else "same") for stride in (2, 2, 1, 1)]
    if pools != wanted:
        raise UserError(
            f"{name}: pools (window, stride, padding) are {pools}, a CRNN's are {wanted}"
        )
    if len(epsilons) != len(NORMS):
        raise UserError(f"{name}: {len(epsilons)} batch norms, a CRNN has {len(NORMS)}")
    geometry = "torch" if padded else "keras"
    return facts | {"geometry": geometry, "epsilon": dict(zip(NORMS, epsilons, strict=True))}


def _config_layers(config: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Class and config of every layer, also of models inside the model."""
    for layer in config["config"]["layers"]:
        if "layers" in layer["config"]:
            yield from _config_layers(layer)
        else:
            yield layer["class_name"], layer["config"]
