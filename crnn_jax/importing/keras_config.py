"""What a Keras model's own description says about the network behind its weights.

A whole-model file holds one, a file of weights does not: then CRNN.tf2's values are taken.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from crnn_jax.core.errors import UserError
from crnn_jax.importing.imported import NORMS

KERAS_EPSILON = 1e-3  # of Keras's batch norm, where nothing is said
_PLAIN = ("linear", "relu")


@dataclasses.dataclass(frozen=True)
class Described:
    """A network's facts that its weights do not show.

    Attributes:
        geometry: 'keras', or 'torch' for a twin of a model with that geometry.
        epsilon: of bn3, bn5, bn7.
        mean, scale: the network saw (levels 0..255 - mean) / scale.
        width: of its input in pixels; 0 = free.
        normalises: the file itself says mean and scale.
    """

    geometry: str = "keras"
    epsilon: dict[str, float] = dataclasses.field(
        default_factory=lambda: dict.fromkeys(NORMS, KERAS_EPSILON)
    )
    mean: float = 0.0
    scale: float = 255.0
    width: int = 0
    normalises: bool = False


def describe(config: dict[str, Any] | None, name: str) -> Described:
    """Reads a `model_config`; None gives CRNN.tf2's values.

    Raises:
        UserError: the network computes something that ours does not.
    """
    if config is None:
        return Described()
    try:
        return _describe(list(_layers(config)), name)
    except RecursionError:
        raise UserError(f"{name}: its description of the network is nested too deeply") from None
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(f"{name}: its description of the network cannot be used") from error


def _layers(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Class and config of every layer, models inside of models included."""
    for layer in config["config"]["layers"]:
        if "layers" in layer["config"]:
            yield from _layers(layer)
        else:
            yield layer["class_name"], layer["config"]


def _describe(layers: list[tuple[str, dict[str, Any]]], name: str) -> Described:
    pools, epsilons, padded = [], [], False
    mean, scale, width, normalises = 0.0, 255.0, 0, False
    for kind, layer in layers:
        at = f"{name}: layer {layer.get('name')}"
        if kind == "InputLayer":
            shape = layer.get("batch_shape") or layer["batch_input_shape"]
            if shape[1] != 32:
                raise UserError(f"{at}: pictures of height {shape[1]}; a CRNN's are 32")
            width = shape[2] or 0
            if type(width) is not int:
                raise ValueError("no width")
        elif kind == "Rescaling":
            factor, offset = float(layer["scale"]), float(layer["offset"])
            if factor > 0.1:  # for values 0 to 1 already, or no normalisation at all
                raise UserError(f"{at}: scales by {factor}; levels 0 to 255 are expected")
            # Nine digits: the inverse of a rounded 1 / 255 is 255 again.
            mean, scale = round(-offset / factor, 9) + 0.0, round(1 / factor, 9)
            normalises = True
        elif kind == "BatchNormalization":
            epsilons.append(float(layer["epsilon"]))
        elif kind in ("MaxPooling2D", "MaxPool2D"):
            pools.append((list(layer["pool_size"]), list(layer["strides"]), layer["padding"]))
        elif kind == "ZeroPadding2D":
            padded = True
        elif kind == "Bidirectional":
            _check_lstm(layer["layer"]["class_name"], layer["layer"]["config"], at)
        elif kind in ("LeakyReLU", "PReLU", "ELU") or (
            kind in ("Conv2D", "Activation") and layer["activation"] not in _PLAIN
        ):
            raise UserError(f"{at}: activation {layer.get('activation', kind)}; ours is relu")
    geometry = "torch" if padded else "keras"
    padding = "valid" if padded else "same"
    wanted = [([2, 2], [2, stride], padding) for stride in (2, 2, 1, 1)]
    if pools != wanted:
        raise UserError(
            f"{name}: pools (window, stride, padding) are {pools}, a CRNN's are {wanted}"
        )
    if len(epsilons) != len(NORMS):
        raise UserError(f"{name}: {len(epsilons)} batch norms, a CRNN has {len(NORMS)}")
    epsilon = dict(zip(NORMS, epsilons, strict=True))
    return Described(geometry, epsilon, mean, scale, width, normalises)


def _check_lstm(kind: str, layer: dict[str, Any], at: str) -> None:
    if kind != "LSTM":
        raise UserError(f"{at}: holds a {kind}, not an LSTM")
    # Keras before 2.3 computed gates by a 'hard_sigmoid' unless told otherwise.
    for key, want in (("activation", "tanh"), ("recurrent_activation", "sigmoid")):
        if layer.get(key, want) != want:
            raise UserError(f"{at}: {key} is {layer[key]!r}, ours is {want!r}")
