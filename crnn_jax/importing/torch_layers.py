"""crnn.pytorch's state_dict under our layers' names.

cnn.conv0..6, cnn.batchnorm2/4/6, rnn.0 and rnn.1, each an LSTM `rnn` and a linear `embedding`: the
first of these is our projection, the second our logits. PyTorch lays arrays out the other way round
and gives an LSTM two biases, of which only the sum counts.
"""

import re

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.importing.imported import NORMS, Layers, Network

TORCH_EPSILON = 1e-5  # of its batch norm; crnn.pytorch does not set it
_CONV = {"weight": "kernel", "bias": "bias"}
_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_FIRST = "cnn.conv0.weight"


def name_tensors(tensors: dict[str, np.ndarray], name: str) -> tuple[Network, list[str]]:
    """Finds the network.

    Args:
        tensors: by name; a prefix before all ('module.', 'state_dict/') does not matter.
        name: what errors call the file.

    Returns:
        (the network, the names of the tensors in it).

    Raises:
        UserError: it is no crnn.pytorch network.
    """
    starts = [key.removesuffix(_FIRST) for key in tensors if key.endswith(_FIRST)]
    if not starts:
        some = ", ".join(list(tensors)[:3])
        raise UserError(f"{name}: no {_FIRST}; a crnn.pytorch state_dict has it (found: {some})")
    prefix = min(starts, key=len)  # a copy, of an optimizer say, lies deeper
    own = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
    layers: Layers = {}
    used: list[str] = []

    def put(layer: str, role: str, array: np.ndarray, *names: str) -> None:
        layers.setdefault(layer, {})[role] = array
        used.extend(prefix + key for key in names)

    for key, array in own.items():
        if match := re.fullmatch(r"cnn\.conv(\d)\.(weight|bias)", key):
            kernel = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
            put(f"conv{int(match[1]) + 1}", _CONV[match[2]], kernel, key)
        elif (match := re.fullmatch(r"cnn\.batchnorm(\d)\.(\w+)", key)) and match[2] in _NORM:
            put(f"bn{int(match[1]) + 1}", _NORM[match[2]], array, key)
        elif match := re.fullmatch(r"rnn\.([01])\.embedding\.(weight|bias)", key):
            layer = "projection" if match[1] == "0" else "logits"
            put(layer, _CONV[match[2]], array.T, key)
        elif match := re.fullmatch(r"rnn\.([01])\.rnn\.weight_(ih|hh)_l0(_reverse)?", key):
            role = "kernel" if match[2] == "ih" else "recurrent_kernel"
            direction = "backward" if match[3] else "forward"
            put(f"bi_lstm{int(match[1]) + 1}", f"{direction}/{role}", array.T, key)
        elif match := re.fullmatch(r"rnn\.([01])\.rnn\.bias_ih_l0(_reverse)?", key):
            other = key.replace("bias_ih", "bias_hh")
            if other not in own or own[other].shape != array.shape:
                raise UserError(f"{name}: {prefix}{other} is missing or does not fit {key}")
            direction = "backward" if match[2] else "forward"
            put(f"bi_lstm{int(match[1]) + 1}", f"{direction}/bias", array + own[other], key, other)
    epsilon = dict.fromkeys(NORMS, TORCH_EPSILON)
    return Network(layers, "torch", epsilon, mean=127.5, scale=127.5), used
