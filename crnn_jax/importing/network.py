"""Another program's CRNN, and the variables of ours that compute the same logits.

network = keras.read_h5('crnn.h5')
variables, config = assemble(network, 'crnn.h5')
"""

import dataclasses
from typing import Any

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.model_file import unflatten
from crnn_jax.models.config import ModelConfig
from crnn_jax.models.crnn import NORMALISED

Layers = dict[str, dict[str, np.ndarray]]

CONVOLUTIONS = tuple(f"conv{i}" for i in range(1, 8))
NORMS = tuple(f"bn{i + 1}" for i in NORMALISED)


@dataclasses.dataclass(frozen=True)
class Network:
    """Weights under our layers' names, in Keras's layout, and how the source uses them."""

    source: str  # 'CRNN.tf2' or 'crnn.pytorch'
    # conv1..7 {kernel [h w in out], bias [out], optional before a batch norm}; bn3, bn5, bn7
    # {gamma, beta, moving_mean, moving_variance}; of residual pairs the same as res4a, bn_res4,
    # res4b; bi_lstm1, bi_lstm2 {forward/kernel [in 4h],
    # forward/recurrent_kernel [h 4h], forward/bias [4h], gates i f g o; backward/.. the same};
    # projection (geometry 'torch' only) and logits {kernel [in out], bias}.
    layers: Layers
    geometry: str
    epsilon: dict[str, float]  # of each batch norm
    mean: float
    scale: float  # it was trained on (levels 0..255 - mean) / scale
    width: int = 0  # fixed input width in pixels; 0: free
    # Names of the file's arrays, and assumptions.
    used: list[str] = dataclasses.field(default_factory=list)
    unused: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


def assemble(network: Network, name: str) -> tuple[dict[str, Any], ModelConfig]:
    """({'params', 'batch_stats'} of float32 arrays, config) of a network; `name` is the file's.

    Shapes are checked against the config by `LoadedModel.of`, later.
    """
    pairs = network.layers.items()
    flat = {f"{layer}/{role}": a for layer, roles in pairs for role, a in roles.items()}
    for key, array in flat.items():
        if array.dtype.kind != "f":
            raise UserError(f"{name}: {key} holds {array.dtype}, not floats")
        with np.errstate(over="ignore"):  # `LoadedModel.of` finds infinities
            flat[key] = np.array(array, np.float32, order="C")
    params: dict[str, Any] = unflatten(flat)
    # Our norms share one epsilon: the smallest, so that no variance gets smaller.
    epsilon = min(network.epsilon.values())
    stats = {}
    residual = tuple(i for i in range(1, 7) if f"res{i}a" in params)
    normalised = {f"bn_res{i}": f"res{i}a" for i in residual}
    normalised |= zip(NORMS, CONVOLUTIONS[2::2], strict=True)
    try:
        for norm, conv in normalised.items():
            theirs = params[norm]
            # A bias before a batch norm only shifts the mean.
            mean = theirs["moving_mean"] - params[conv].pop("bias", np.float32(0))
            more = np.float32(network.epsilon[norm] - epsilon)
            stats[norm] = {"mean": mean, "var": theirs["moving_variance"] + more}
            params[norm] = {"scale": theirs["gamma"], "bias": theirs["beta"]}
        config = ModelConfig(
            num_classes=params["logits"]["kernel"].shape[1],
            channels=params["conv1"]["kernel"].shape[2],
            filters=tuple(params[conv]["kernel"].shape[-1] for conv in CONVOLUTIONS),
            hidden=params["bi_lstm1"]["forward"]["recurrent_kernel"].shape[0],
            residual=residual,
            geometry=network.geometry,
            mean=network.mean,
            scale=network.scale,
            bn_epsilon=epsilon,
        )
    except KeyError as error:
        raise UserError(f"{name}: no {error}; this is another network") from error
    except (ValueError, IndexError) as error:
        raise UserError(f"{name}: arrays of shapes that do not fit: {error}") from error
    if network.geometry != "torch":
        params.pop("projection", None)
    return {"params": params, "batch_stats": stats}, config
