"""Keras's names of layers and weights, old and new, put under ours.

Every way of Keras to store weights comes down to pairs of a path and an array. `collect` groups
them by layer, `name_layers` finds the CRNN's layers among them: by CRNN.tf2's names, or where
Keras numbered them itself (conv2d_3) by their kind and order.
"""

from collections.abc import Iterable

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.importing.imported import CONVOLUTIONS, NORMS, Layers
from crnn_jax.importing.keras_names import ROLES, split_path

# What CRNN.tf2 is made of: kind -> names, in the order of the network.
_KINDS: dict[str, tuple[str, ...]] = {
    "convolution": CONVOLUTIONS,
    "batch norm": NORMS,
    "bidirectional LSTM": ("bi_lstm1", "bi_lstm2"),
    "dense layer": ("logits",),
}
_WITH_PROJECTION = ("projection", "logits")  # of our own geometry 'torch'


def collect(weights: Iterable[tuple[str, np.ndarray]], name: str) -> tuple[Layers, list[str]]:
    """Groups weights by layer, in the order in which layers come.

    Args:
        weights: path and array of each.
        name: what errors call the file.

    Returns:
        ({layer: {role: array}}, the paths whose role no CRNN knows).

    Raises:
        UserError: two weights of one layer have the same role.
    """
    layers: Layers = {}
    strange = []
    for path, array in weights:
        layer, role = split_path(path)
        if role.rpartition("/")[2] not in ROLES:
            strange.append(path)
        elif role in layers.setdefault(layer, {}):
            raise UserError(f"{name}: {path} is a second {role} of layer {layer}")
        else:
            layers[layer][role] = array
    return layers, strange


def name_layers(layers: Layers, name: str) -> tuple[Layers, dict[str, str]]:
    """Finds the CRNN's layers.

    Args:
        layers: in the order of the network, at least within one kind.
        name: what errors call the file.

    Returns:
        (layers under our names, {our name: the file's name}).

    Raises:
        UserError: there are more or fewer of a kind than a CRNN has.
    """
    if all(ours in layers for ours in (*CONVOLUTIONS, *NORMS)):
        # Named by hand; other layers beside these are none of ours.
        known = (*CONVOLUTIONS, *NORMS, "bi_lstm1", "bi_lstm2", "projection", "logits")
        found = {ours: ours for ours in known if ours in layers}
    else:
        found = {}
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
    return {ours: layers[theirs] for ours, theirs in found.items()}, found


def _kind(roles: dict[str, np.ndarray]) -> str | None:
    if "forward/kernel" in roles:
        return "bidirectional LSTM"
    if "moving_mean" in roles:
        return "batch norm"
    rank = roles["kernel"].ndim if "kernel" in roles else 0
    return {4: "convolution", 2: "dense layer"}.get(rank)
