"""What defines a network: a frozen dataclass that a model file stores and `CRNN` is built from.

config = get_model_config('crnn_small', num_classes=37, channels=1)
model = CRNN(config)
"""

import dataclasses
from typing import Any

from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing

DTYPES = ("float32", "bfloat16")
MAX_UNROLL = 256  # each step is compiled
_FULL = (64, 128, 256, 256, 512, 512, 512)
_HALF = tuple(filters // 2 for filters in _FULL)
_FINE = (32, 64, 96, 96, 192, 192, 192)
VARIANTS: dict[str, dict[str, Any]] = {
    "crnn": {"filters": _FULL, "hidden": 256},  # the paper's; 8.72 M parameters as CRNN.tf2
    "crnn_small": {"filters": _HALF, "hidden": 128},
    "crnn_residual": {"filters": _HALF, "hidden": 128, "residual": (4, 6)},
    "crnn_fine": {"filters": _FINE, "hidden": 128, "geometry": "fine"},
    "crnn_tiny": {"filters": (8, 12, 16, 16, 24, 24, 24), "hidden": 16},  # tests, in seconds
}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network of one model file.

    Attributes:
      num_classes: K, the blank included.
      channels: of the image, 1 (grey) or 3 (RGB).
      filters: output channels of the seven convolutions.
      hidden: units of one direction of each LSTM.
      residual: convolutions, counted from 1, that a residual pair of convolutions follows.
      geometry: 'keras' (CRNN.tf2's), 'torch' (crnn.pytorch's) or 'fine'; see `core.geometry`.
      mean, scale: the network sees `(uint8 - mean) / scale`.
      bn_momentum, bn_epsilon: of batch norm; running = momentum * running + (1 - momentum) * new.
      dtype: of activations, one of DTYPES; 'bfloat16' is for GPU, TPU and CPUs that multiply it.
        Parameters, batch norm, the LSTMs' state and logits stay float32.
      unroll: LSTM steps in one turn of the loop, a trade of compile time for loop overhead.
    """

    num_classes: int
    channels: int = 1
    filters: tuple[int, ...] = _FULL
    hidden: int = 256
    residual: tuple[int, ...] = ()
    geometry: str = "keras"
    mean: float = 127.5
    scale: float = 127.5
    bn_momentum: float = 0.99
    bn_epsilon: float = 1e-3
    dtype: str = "float32"
    unroll: int = 1

    @property
    def name(self) -> str:
        """The variant of these sizes; the sizes themselves where they are another program's."""
        sizes = dataclasses.asdict(self)
        names = [name for name in VARIANTS if variant(name).items() <= sizes.items()]
        told = (f"{key} {sizes[key]}" for key in ("filters", "hidden", "residual"))
        return names[0] if names else ", ".join(told)

    def to_dict(self) -> dict[str, Any]:
        """What a model file holds as 'model': mean and scale are the preprocessing's."""
        values = dataclasses.asdict(self) | {"filters": list(self.filters)}
        values["residual"] = list(self.residual)
        if not self.residual:  # as files written before there were any
            del values["residual"]
        return {key: value for key, value in values.items() if key not in ("mean", "scale")}

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> "ModelConfig":
        """The network of a model file.

        Args:
          metadata: with 'model' and 'preprocessing'. Older files hold mean and scale in both.

        Raises:
          UserError: a key that is not known; another mean or scale than the preprocessing's.
        """
        values = metadata["model"]
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise UserError(f"model: unknown keys {unknown}; known are {sorted(known)}")
        image = Preprocessing.from_metadata(metadata["preprocessing"])
        normal = {"mean": image.mean, "scale": image.scale}
        for key, value in normal.items():
            if key in values and values[key] != value:
                told = repr(values[key])[:60]
                raise UserError(f"model.{key}={told}: the preprocessing's is {value}")
        sizes = {"filters": tuple(values.get("filters", _FULL))}
        sizes["residual"] = tuple(values.get("residual", ()))
        return cls(**{**values, **normal, **sizes})


def get_model_config(name: str, *, num_classes: int, **overrides: Any) -> ModelConfig:
    """The config of a named network, one of VARIANTS.

    Raises:
      UserError: there is no network of that name.
    """
    return ModelConfig(**{**variant(name), "num_classes": num_classes, **overrides})


def variant(name: str) -> dict[str, Any]:
    """Sizes of a named network; raises as `get_model_config`."""
    if name not in VARIANTS:
        raise UserError(f"model.name: {name!r} is not one of {sorted(VARIANTS)}")
    return {"residual": ()} | VARIANTS[name]
