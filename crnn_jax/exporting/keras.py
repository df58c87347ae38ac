"""The same network as ordinary Keras layers, and back.

    keras_model = to_keras(open_model('en_36'))
    keras_model(images)  # [b 32 w c] of levels 0 to 255 --> raw logits [b t k]
    save_h5(keras_model, 'crnn.h5', reader_metadata(LoadedModel.open('en_36'), 'none'))
    variables, metadata = from_keras(keras.models.load_model('crnn.h5'), metadata)

Layers have CRNN.tf2's names, so that its weights and ours load into each other by name. Keras knows
no real widths: all images of a batch must be of one width, without padding.
"""

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import whole_file
from crnn_jax.core.geometry import STRIDES
from crnn_jax.exporting.metadata import METADATA
from crnn_jax.importing.keras import split_path
from crnn_jax.importing.network import NORMS, Layers, Network, assemble
from crnn_jax.models.config import ModelConfig
from crnn_jax.models.crnn import POOLED
from crnn_jax.reading.loaded_model import LoadedModel

if TYPE_CHECKING:
    import keras

Model = tuple[dict[str, Any], dict[str, Any]]  # as `loaded_model.open_model` returns it

# Pool of ours -> CRNN.tf2's name of it, after the convolution before.
_POOL_NAMES = {"pool1": "pool1", "pool2": "pool2", "pool3": "pool4", "pool4": "pool6"}


def to_keras(model: Model, *, softmax: bool = False) -> "keras.Model":
    """A Keras model with this model's weights, which normalises inside.

    It maps levels 0 to 255 [b height w c] (float32; uint8 is cast) to raw logits float32 [b t k],
    or with `softmax` to probabilities.
    """
    import keras
    from keras import layers

    variables, metadata = model
    LoadedModel.of(variables, metadata, "the model")
    cfg = ModelConfig.from_metadata(metadata)

    def bi_lstm(name: str) -> Any:
        return layers.Bidirectional(layers.LSTM(cfg.hidden, return_sequences=True), name=name)

    image = keras.Input((metadata["preprocessing"]["height"], None, cfg.channels), name="image")
    # The factor as a Python float: Keras stores it as it is, and an h5 file keeps every digit.
    x = layers.Rescaling(1 / cfg.scale, -cfg.mean / cfg.scale, name="normalise")(image)

    def convolution(x: Any, name: str, features: int, norm: str = "") -> Any:
        size, padding = (2, "valid") if name == f"conv{last}" else (3, "same")
        x = layers.Conv2D(features, size, padding=padding, use_bias=not norm, name=name)(x)
        if norm:
            moments = {"momentum": cfg.bn_momentum, "epsilon": cfg.bn_epsilon}
            x = layers.BatchNormalization(name=norm, **moments)(x)
        return x

    last = len(cfg.filters)
    for i, features in enumerate(cfg.filters, 1):
        x = convolution(x, f"conv{i}", features, f"bn{i}" if f"bn{i}" in NORMS else "")
        x = layers.Activation("relu", name=f"relu{i}")(x)
        if i in cfg.residual:
            y = convolution(x, f"res{i}a", features, f"bn_res{i}")
            y = layers.Activation("relu", name=f"relu_res{i}a")(y)
            x = layers.Add(name=f"add_res{i}")([x, convolution(y, f"res{i}b", features)])
            x = layers.Activation("relu", name=f"relu_res{i}b")(x)
        if i - 1 in POOLED:
            pool = POOLED[i - 1]
            stride = STRIDES[cfg.geometry][pool]
            name = _POOL_NAMES[pool]
            if cfg.geometry == "torch" and stride == 1:
                # Zeros do for the -inf of crnn.pytorch's padding: every pool follows a ReLU.
                x = layers.ZeroPadding2D(((0, 0), (1, 1)), name=f"pad{name[-1]}")(x)
            padding = "valid" if cfg.geometry == "torch" else "same"
            x = layers.MaxPooling2D(2, (2, stride), padding, name=name)(x)
    x = layers.Reshape((-1, cfg.filters[-1]), name=f"reshape{last}")(x)  # --> [b, t, c]
    x = bi_lstm("bi_lstm1")(x)
    if cfg.geometry == "torch":
        x = layers.Dense(cfg.hidden, name="projection")(x)
    x = bi_lstm("bi_lstm2")(x)
    x = layers.Dense(cfg.num_classes, name="logits")(x)
    if softmax:
        x = layers.Softmax(name="softmax")(x)
    keras_model = keras.Model(image, x, name="crnn")
    for layer in keras_model.layers:
        arrays = variables["params"].get(layer.name, {})
        if moments := variables["batch_stats"].get(layer.name):
            arrays = {"gamma": arrays["scale"], "beta": arrays["bias"]}
            arrays |= {"moving_mean": moments["mean"], "moving_variance": moments["var"]}
        for weight in layer.weights:
            *direction, role = split_path(weight.path)[1].split("/")
            weight.assign(arrays[direction[0]][role] if direction else arrays[role])
    return keras_model


def save_h5(keras_model: "keras.Model", path: str | os.PathLike[str], metadata: str = "") -> None:
    """Writes the whole model as HDF5 for Keras 2 and 3, `metadata` as its `crnn_jax.json`."""
    import h5py
    from keras.src.legacy.saving.legacy_h5_format import save_model_to_hdf5

    name = os.fspath(path)
    # What `keras_model.save` does, but in memory: libhdf5 ends the process where a disk is full.
    with h5py.File(name, "w", driver="core", backing_store=False) as image:
        save_model_to_hdf5(keras_model, image, include_optimizer=False)
        if metadata:
            image.attrs[METADATA] = metadata
            image.flush()
        with whole_file(name, "wb") as file:
            file.write(image.id.get_file_image())


def from_keras(keras_model: "keras.Model", metadata: dict[str, Any]) -> Model:
    """The model of a Keras model with the layers of `to_keras`, fine-tuned perhaps.

    `metadata` is of the model that it was made from: characters and preprocessing stay. That it
    is read in several views does not: what was fine-tuned is to be measured before.
    """
    name = "the Keras model"
    layers: Layers = {}
    for layer in keras_model.layers:
        if layer.weights:
            layers[layer.name] = {split_path(w.path)[1]: np.asarray(w) for w in layer.weights}
    old = ModelConfig.from_metadata(metadata)
    epsilon = {n: float(keras_model.get_layer(n).epsilon) for n in layers if n.startswith("bn")}
    if not epsilon.keys() >= set(NORMS):
        raise UserError(f"{name}: no batch norms {', '.join(NORMS)}; this is another network")
    network = Network("keras", layers, old.geometry, epsilon, old.mean, old.scale)
    variables, config = assemble(network, name)
    metadata = metadata | {"model": config.to_dict() | {"bn_momentum": old.bn_momentum}}
    metadata.pop("views", None)
    LoadedModel.of(variables, metadata, name)
    return variables, metadata
