"""CRNN.tf2's weights: HDF5 files of Keras 2 and 3, read without Keras.

network = read_h5('crnn.h5')

Three layouts: whole models (a group `model_weights` and the attribute `model_config`), weights (the
same group at the top), and Keras 3's `.weights.h5` (`layers/<class>/vars/0`). Layers have the names
of CRNN.tf2, or Keras's own (conv2d_3), which are matched by kind and order.
"""

import collections
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.geometry import STRIDES
from crnn_jax.importing.network import CONVOLUTIONS, NORMS, Layers, Network

LSTM = ("LSTM", "tanh", "sigmoid")  # class, activation, recurrent activation
EPSILON = 1e-3  # Keras's default of batch norm
_ROLES = {"kernel", "recurrent_kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"}
# Keras 3 numbers a layer's variables. Their number -> their roles.
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
    "dense layer": ("projection", "logits"),  # the first is of our own geometry 'torch' only
}
# Of our own residual networks, which `export --format keras` writes.
_RESIDUAL = re.compile("res[1-6][ab]|bn_res[1-6]")

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
    layers = {ours: found.pop(theirs) for ours, theirs in names.items()}
    used = [f"{theirs}/{role}" for ours, theirs in names.items() for role in layers[ours]]
    rest = sorted(f"{layer}/{role}" for layer, roles in found.items() for role in roles)
    return Network("CRNN.tf2", layers, **facts, used=used, unused=rest + unused)


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
    """(path and array of every weight in the network's order, model_config or None)."""
    import h5py

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
    """Keras 2's layout: the lists of names have the network's order."""
    for layer in map(_text, top.attrs["layer_names"]):
        group = top[layer]
        for weight in map(_text, group.attrs["weight_names"]):
            # Some lists have 'bias:0', without the layer.
            yield weight if "/" in weight else f"{layer}/{weight}", np.asarray(group[weight][()])


def _numbered(layers: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Keras 3's layout: class and number, the layer's own name in an attribute."""
    for key in sorted(layers, key=_natural):
        own = layers[key]["vars"].attrs.get("name") if "vars" in layers[key] else None
        layer = key if own is None else _text(own)
        for direction in ("", "forward_layer/", "backward_layer/"):
            arrays = layers[key].get(f"{direction}cell/vars" if direction else "vars", {})
            roles = _NUMBERED.get(len(arrays), map(str, range(len(arrays))))
            for place, role in enumerate(roles):
                yield f"{layer}/{direction}{role}", np.asarray(arrays[str(place)][()])


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _natural(name: str) -> list[Any]:
    """Sorts conv2d, conv2d_1, .. conv2d_9, conv2d_10 as Keras counted them."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]


def _match_layers(layers: Layers, name: str) -> dict[str, str]:
    """{our name: the file's name} of a CRNN's layers."""
    if all(ours in layers for ours in (*CONVOLUTIONS, *NORMS)):
        # With CRNN.tf2's names; further layers are not part of the network.
        known = {ours for kind in _KINDS.values() for ours in kind}
        return {ours: ours for ours in layers if ours in known or _RESIDUAL.fullmatch(ours)}
    found: dict[str, str] = {}
    for kind, ours in _KINDS.items():
        theirs = [layer for layer, roles in layers.items() if _kind(roles) == kind]
        if kind == "dense layer" and len(theirs) == 1:
            ours = ("logits",)
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
    """`Network`'s fields by `model_config`, or CRNN.tf2's values without one."""
    facts: dict[str, Any] = {
        "geometry": "keras",
        "epsilon": dict.fromkeys((*NORMS, *(f"bn_res{i}" for i in range(1, 7))), EPSILON),
        "mean": 0.0,
        "scale": 255.0,
        "notes": ["assumed: images are normalised as in CRNN.tf2, x / 255"],
    }
    if config is None:
        facts["notes"].append(f"assumed: batch norm's epsilon is {EPSILON}, Keras's default")
        return facts
    of: dict[str, list[Any]] = collections.defaultdict(list)  # class -> configs of its layers
    try:
        for kind, layer in _config_layers(config):
            of[kind].append(layer)
        for layer in of["Rescaling"]:
            factor, offset = float(layer["scale"]), float(layer["offset"])
            # Nine digits: 1 / 255 may be rounded.
            mean, scale = round(-offset / factor, 9) + 0.0, round(1 / factor, 9)
            facts |= {"mean": mean, "scale": scale, "notes": []}
        heights = {32}
        for layer in of["InputLayer"]:
            _, height, width, _ = layer.get("batch_shape") or layer["batch_input_shape"]
            heights.add(height)
            facts["width"] = width or 0
        norms = [(layer["name"], float(layer["epsilon"])) for layer in of["BatchNormalization"]]
        pools = [
            (*layer["pool_size"], *layer["strides"], layer["padding"])
            for layer in of["MaxPooling2D"] + of["MaxPool2D"]
        ]
        activations = {layer["activation"] for layer in of["Conv2D"] + of["Activation"]}
        activations |= {kind for kind in ("LeakyReLU", "PReLU", "ELU") if of[kind]}
        gates = {LSTM}
        for layer in (layer["layer"] for layer in of["Bidirectional"]):
            # Keras before 2.3 computed gates by 'hard_sigmoid' by default.
            by = (("activation", "tanh"), ("recurrent_activation", "sigmoid"))
            gates.add((layer["class_name"], *(layer["config"].get(*pair) for pair in by)))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(f"{name}: its model_config cannot be used: {error!r}") from error
    residual = {norm: value for norm, value in norms if _RESIDUAL.fullmatch(norm)}
    plain = [value for norm, value in norms if norm not in residual]
    geometry, padding = ("torch", "valid") if of["ZeroPadding2D"] else ("keras", "same")
    windows = {g: [(2, 2, 2, s, padding) for s in by.values()] for g, by in STRIDES.items()}
    if pools == windows["fine"]:
        geometry = "fine"
    for what, found, wanted in (
        ("images of height", heights, {32}),
        ("a scale of grey levels 0 to 255", facts["scale"] >= 10, True),
        ("pools (window, stride, padding)", pools, windows[geometry]),
        ("activations", activations | {"linear", "relu"}, {"linear", "relu"}),
        ("recurrent layers", gates, {LSTM}),
        ("batch norms", len(plain), len(NORMS)),
    ):
        if found != wanted:
            raise UserError(f"{name}: {what}: {found}; a CRNN has {wanted}")
    epsilon = dict(zip(NORMS, plain, strict=True)) | residual
    return facts | {"geometry": geometry, "epsilon": epsilon}


def _config_layers(config: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Class and config of every layer, also of nested models."""
    for layer in config["config"]["layers"]:
        if "layers" in layer["config"]:
            yield from _config_layers(layer)
        else:
            yield layer["class_name"], layer["config"]
