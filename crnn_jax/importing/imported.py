"""A CRNN that another program trained, on its way into a model file.

Readers of files hand over a `Network`: arrays under the names of our layers, in Keras's layout.
`assemble` checks every shape against the ones before it and makes our variables of them, such that
the logits are the source's own.
"""

import dataclasses
from typing import Any

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.models.config import ModelConfig
from crnn_jax.models.crnn import NORMALISED

Layers = dict[str, dict[str, np.ndarray]]

CONVOLUTIONS = tuple(f"conv{i}" for i in range(1, 8))
NORMS = tuple(f"bn{i + 1}" for i in NORMALISED)
_DIRECTIONS = ("forward", "backward")


@dataclasses.dataclass(frozen=True)
class Network:
    """Weights of a CRNN under our layers' names.

    Attributes:
        layers: conv1..7 {kernel [h w in out], bias [out], which the three before a batch norm may
            lack}; bn3, bn5, bn7 {gamma, beta, moving_mean, moving_variance}; bi_lstm1, bi_lstm2
            {forward/kernel [in 4h], forward/recurrent_kernel [h 4h], forward/bias [4h] (gates i f
            g o), backward/.. the same}; projection (geometry 'torch' only), logits {kernel
            [in out], bias}.
        geometry: 'keras' or 'torch'.
        epsilon: of each batch norm.
        mean, scale: the network was trained on (levels 0..255 - mean) / scale.
    """

    layers: Layers
    geometry: str
    epsilon: dict[str, float]
    mean: float
    scale: float


def assemble(network: Network, name: str) -> tuple[dict[str, Any], ModelConfig]:
    """Our variables of a foreign network.

    Args:
        network: see there.
        name: what errors call it.

    Returns:
        ({'params', 'batch_stats'} of float32 arrays, the config of the network).

    Raises:
        UserError: a layer is missing or of a shape that does not fit; a number is not finite.
    """
    take = _Taker(network.layers, name)
    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    channels = take.shape("conv1", "kernel")[2:3]
    before = inputs = int(channels[0]) if channels else 0
    if inputs not in (1, 3):
        raise UserError(f"{name}: conv1 takes {inputs} channels; a picture has 1 or 3")
    # One config key for all: the smallest, so that what is added to a variance is never negative.
    epsilon = min(network.epsilon.values(), default=1e-3)
    filters = []
    for i, conv in enumerate(CONVOLUTIONS):
        size = 2 if i == len(CONVOLUTIONS) - 1 else 3
        kernel = take(conv, "kernel", size, size, before, None)
        before = kernel.shape[-1]
        filters.append(before)
        params[conv] = {"kernel": kernel}
        if i in NORMALISED:
            norm = f"bn{i + 1}"
            params[norm] = {
                "scale": take(norm, "gamma", before),
                "bias": take(norm, "beta", before),
            }
            mean = take(norm, "moving_mean", before)
            if "bias" in network.layers[conv]:
                # Ahead of batch norm it only moves the mean that is taken away again.
                mean = mean - take(conv, "bias", before)
            variance = take(norm, "moving_variance", before)
            if variance.min() < 0:
                raise UserError(f"{name}: {norm}/moving_variance holds a negative variance")
            more = np.float32(network.epsilon[norm] - epsilon)
            stats[norm] = {"mean": mean, "var": variance + more}
        else:
            params[conv]["bias"] = take(conv, "bias", before)
    hidden = take("bi_lstm1", "forward/recurrent_kernel", None, None).shape[0]
    params["bi_lstm1"] = take.bi_lstm("bi_lstm1", before, hidden)
    before = 2 * hidden
    if network.geometry == "torch":
        params["projection"] = take.dense("projection", before, hidden)
        before = hidden
    params["bi_lstm2"] = take.bi_lstm("bi_lstm2", before, hidden)
    params["logits"] = take.dense("logits", 2 * hidden, None)
    config = ModelConfig(
        num_classes=params["logits"]["bias"].size,
        channels=inputs,
        filters=tuple(filters),
        hidden=hidden,
        geometry=network.geometry,
        mean=network.mean,
        scale=network.scale,
        bn_epsilon=epsilon,
    )
    return {"params": params, "batch_stats": stats}, config


class _Taker:
    """Takes arrays by layer and role, each of the shape that the network asks for."""

    def __init__(self, layers: Layers, name: str) -> None:
        self._layers = layers
        self._name = name

    def shape(self, layer: str, role: str) -> tuple[int, ...]:
        return self._find(layer, role).shape

    def __call__(self, layer: str, role: str, *want: int | None) -> np.ndarray:
        array = self._find(layer, role)
        fits = len(array.shape) == len(want) and all(
            n > 0 and w in (None, n) for w, n in zip(want, array.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if n is None else str(n) for n in want)
            raise UserError(
                f"{self._name}: {layer}/{role} has shape {list(array.shape)}, "
                f"a CRNN's here is [{wanted}]"
            )
        if array.dtype.kind != "f":
            raise UserError(f"{self._name}: {layer}/{role} holds {array.dtype}, not numbers")
        with np.errstate(over="ignore"):  # a double too large for a float is told below
            array = np.ascontiguousarray(array, np.float32)
        if not np.isfinite(array).all():
            raise UserError(f"{self._name}: {layer}/{role} holds numbers that are not finite")
        return array

    def dense(self, layer: str, before: int, after: int | None) -> dict[str, np.ndarray]:
        kernel = self(layer, "kernel", before, after)
        return {"kernel": kernel, "bias": self(layer, "bias", kernel.shape[1])}

    def bi_lstm(self, layer: str, before: int, hidden: int) -> dict[str, Any]:
        return {
            direction: {
                "kernel": self(layer, f"{direction}/kernel", before, 4 * hidden),
                "recurrent_kernel": self(
                    layer, f"{direction}/recurrent_kernel", hidden, 4 * hidden
                ),
                "bias": self(layer, f"{direction}/bias", 4 * hidden),
            }
            for direction in _DIRECTIONS
        }

    def _find(self, layer: str, role: str) -> np.ndarray:
        if layer not in self._layers:
            raise UserError(f"{self._name}: no layer {layer}; this is no CRNN of this kind")
        if role not in self._layers[layer]:
            raise UserError(f"{self._name}: layer {layer} has no {role}")
        return self._layers[layer][role]
