"""CRNNs of other programs, tiny and random, and files in the formats these programs wrote.

Batch statistics are far from 0 and 1, and pictures change the logits by whole units, so that a
weight in the wrong place is seen.
"""

import copy
import json
from typing import Any

import numpy as np

from tests.testdata.tiny_model import tiny_metadata, tiny_variables

FILTERS = (8, 12, 16, 16, 24, 24, 24)
HIDDEN = 16
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
WIDTHS = (40, 100, 161, 300)
NORMED = (3, 5, 7)


def pictures(width: int, channels: int, count: int = 2) -> np.ndarray:
    """uint8 [count 32 width channels]."""
    return np.random.default_rng(width).integers(0, 256, (count, 32, width, channels), np.uint8)


def random_weight(shape: tuple[int, ...], role: str, seed: int) -> np.ndarray:
    """Of a size that keeps activations, and the LSTMs' and the last layer's larger than that."""
    random = np.random.default_rng(seed)
    if role.endswith("variance") or role == "running_var":
        return random.uniform(0.1, 3, shape).astype(np.float32)
    if len(shape) == 1:
        return random.normal(0.2, 0.3, shape).astype(np.float32)
    if len(shape) == 2:
        return random.normal(0, 0.5, shape).astype(np.float32)
    fan = np.prod(shape) / max(shape[0], shape[-1])
    return (random.normal(0, 1, shape) * (2 / fan) ** 0.5).astype(np.float32)


def our_model(
    geometry: str = "keras", channels: int = 1, residual: tuple[int, ...] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(variables, metadata) of ours, what `open_model` gives."""
    variables, config = tiny_variables(37, channels, geometry, residual)
    variables = copy.deepcopy(variables)
    for i, (name, stats) in enumerate(variables["batch_stats"].items()):
        size = stats["mean"].shape
        stats["mean"] = random_weight(size, "mean", i)
        stats["var"] = random_weight(size, "variance", i + 10)
        for j, role in enumerate(("scale", "bias")):
            variables["params"][name][role] = random_weight(size, role, 20 + 2 * i + j)
    for i in residual:  # they begin as zeros
        kernel = variables["params"][f"res{i}b"]["kernel"]
        variables["params"][f"res{i}b"]["kernel"] = random_weight(kernel.shape, "kernel", 40 + i)
    variables["params"]["logits"]["kernel"] /= 20
    preprocessing = tiny_metadata()["preprocessing"] | {"channels": channels}
    metadata = tiny_metadata(geometry=geometry, preprocessing=preprocessing)
    # Not the epsilon that Keras takes where nobody says.
    return variables, metadata | {"model": config.to_dict() | {"bn_epsilon": 0.02}}


def keras_net(
    *, named: bool = True, bias: bool = False, rescale: bool = False, width: int | None = None
) -> Any:
    """CRNN.tf2's network for RGB pictures, of x / 255, or of levels with `rescale`."""
    import keras

    layers = keras.layers

    def name(text: str) -> dict[str, str]:
        return {"name": text} if named else {}

    x = image = keras.Input((32, width, 3))
    if rescale:
        x = layers.Rescaling(1 / 255)(x)
    for i, filters in enumerate(FILTERS, 1):
        normed = i in NORMED
        x = layers.Conv2D(
            filters,
            2 if i == 7 else 3,
            padding="valid" if i == 7 else "same",
            activation=None if normed else "relu",
            use_bias=bias or not normed,
            **name(f"conv{i}"),
        )(x)
        if normed:
            x = layers.BatchNormalization(**name(f"bn{i}"))(x)
            x = layers.Activation("relu", **name(f"relu{i}"))(x)
        if i in (1, 2, 4, 6):
            strides = 2 if i < 3 else (2, 1)
            x = layers.MaxPooling2D(2, strides, padding="same", **name(f"pool{i}"))(x)
    x = layers.Reshape((-1, FILTERS[-1]))(x)
    for number in "12":
        lstm = layers.LSTM(HIDDEN, return_sequences=True)
        x = layers.Bidirectional(lstm, **name(f"bi_lstm{number}"))(x)
    net = keras.Model(image, layers.Dense(37, **name("logits"))(x))
    for seed, weight in enumerate(net.weights):
        weight.assign(random_weight(tuple(weight.shape), weight.path.split("/")[-1], seed))
    return net


def keras_weights(net: Any) -> list[tuple[str, list[tuple[str, np.ndarray]]]]:
    """(layer, [(weight, array)]) with Keras 2's names: 'bi_lstm1/forward_lstm/lstm_cell_1/bias'."""
    found = []
    for layer in net.layers:
        weights = []
        for weight in layer.weights:
            path = weight.path if layer.name in weight.path else f"{layer.name}/{weight.path}"
            path = path.replace("lstm_cell", "lstm_cell_1")
            weights.append((path, np.asarray(weight)))
        found.append((layer.name, weights))
    return found


def write_keras2_h5(net: Any, path: Any, config: Any = None) -> None:
    """The layout of Keras 2: names as bytes, ':0' behind each, groups within groups."""
    import h5py

    with h5py.File(path, "w") as file:
        top = file
        if config is not None:
            file.attrs["model_config"] = json.dumps(config).encode()
            top = file.create_group("model_weights")
        layers = keras_weights(net)
        top.attrs["layer_names"] = np.array([name.encode() for name, _ in layers])
        top.attrs["backend"] = b"tensorflow"
        top.attrs["keras_version"] = b"2.4.0"
        for name, weights in layers:
            group = top.create_group(name)
            names = [f"{weight}:0".encode() for weight, _ in weights]
            group.attrs["weight_names"] = np.array(names) if names else np.zeros(0)
            for weight, array in weights:
                group.create_dataset(f"{weight}:0", data=array)


def keras2_config(net: Any) -> dict[str, Any]:
    """A description with the keys of Keras 2."""
    config = json.loads(net.to_json())
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "InputLayer":
            layer["config"]["batch_input_shape"] = layer["config"].pop("batch_shape")
    return config


def torch_net() -> Any:
    """crnn.pytorch's network, for pictures of (x / 255 - 0.5) / 0.5."""
    import torch
    from torch import nn

    class BidirectionalLSTM(nn.Module):
        def __init__(self, before: int, hidden: int, after: int) -> None:
            super().__init__()
            self.rnn = nn.LSTM(before, hidden, bidirectional=True)
            self.embedding = nn.Linear(2 * hidden, after)

        def forward(self, x: Any) -> Any:
            return self.embedding(self.rnn(x)[0])

    class CRNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cnn = nn.Sequential()
            before = 1
            for i, filters in enumerate(FILTERS):
                size, padding = (2, 0) if i == 6 else (3, 1)
                self.cnn.add_module(f"conv{i}", nn.Conv2d(before, filters, size, 1, padding))
                if i + 1 in NORMED:
                    self.cnn.add_module(f"batchnorm{i}", nn.BatchNorm2d(filters))
                self.cnn.add_module(f"relu{i}", nn.ReLU())
                if i in (0, 1):
                    self.cnn.add_module(f"pooling{i}", nn.MaxPool2d(2, 2))
                if i in (3, 5):
                    self.cnn.add_module(f"pooling{i}", nn.MaxPool2d((2, 2), (2, 1), (0, 1)))
                before = filters
            first = BidirectionalLSTM(before, HIDDEN, HIDDEN)
            self.rnn = nn.Sequential(first, BidirectionalLSTM(HIDDEN, HIDDEN, 37))

        def forward(self, x: Any) -> Any:
            return self.rnn(self.cnn(x).squeeze(2).permute(2, 0, 1))

    net = CRNN().eval()
    state = net.state_dict()
    for seed, (key, tensor) in enumerate(state.items()):
        if tensor.ndim:
            # PyTorch has outputs first, and its biases in pairs.
            array = random_weight(tuple(tensor.shape), key.split(".")[-1], seed)
            tensor.copy_(torch.from_numpy(array))
    return net
