"""The same network as ordinary Keras layers, and back.

    twin = keras_twin.build(open_model('en_36'))
    twin(images)  # [b, 32, w, c] of 0..255 levels --> raw logits [b, t, k]
    keras_twin.save_h5(twin, 'crnn.h5')
    variables, metadata = keras_twin.from_keras(keras.models.load_model('crnn.h5'), metadata)

Layers bear CRNN.tf2's names, so that its weights and ours load into each other by name. Keras knows
no real widths: all pictures of a batch must be of one width, none of it padding.
"""

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.whole_file import whole_file
from crnn_jax.importing.imported import NORMS, Network, assemble
from crnn_jax.importing.keras_names import split_path
from crnn_jax.models.config import ModelConfig
from crnn_jax.models.crnn import POOLED

if TYPE_CHECKING:
    import keras

Model = tuple[dict[str, Any], dict[str, Any]]  # as `loaded_model.open_model` returns it

# Pool of ours -> CRNN.tf2's name of it, after the convolution before.
_POOL_NAMES = {"pool1": "pool1", "pool2": "pool2", "pool3": "pool4", "pool4": "pool6"}
_BN = {"scale": "gamma", "bias": "beta"}


def build(model: Model, *, batch: int | None = None, width: int | None = None) -> "keras.Model":
    """A Keras model with this model's weights.

    Args:
        model: what `loaded_model.open_model` returns.
        batch: fixed number of pictures; None: any.
        width: fixed width in pixels; None: any, of one batch the same.

    Returns:
        [b, height, w, c] levels 0 to 255 (float32; uint8 is cast) -> raw logits float32 [b, t, k].
        It normalises inside.

    Raises:
        UserError: Keras is not installed, or the weights do not fit the network.
    """
    layers = _keras().layers
    variables, metadata = model
    cfg = ModelConfig.from_metadata(metadata)
    height = metadata["preprocessing"]["height"]
    image = _keras().Input((height, width, cfg.channels), batch, name="image")
    # The factor as a Python float: Keras stores it as it is, and an h5 file keeps every digit.
    x = layers.Rescaling(1 / cfg.scale, -cfg.mean / cfg.scale, name="normalise")(image)
    last = len(cfg.filters)
    for i, features in enumerate(cfg.filters, 1):
        normed = f"bn{i}" in NORMS
        x = layers.Conv2D(
            features,
            2 if i == last else 3,
            padding="valid" if i == last else "same",
            use_bias=not normed,
            name=f"conv{i}",
        )(x)
        if normed:
            norm = layers.BatchNormalization(
                momentum=cfg.bn_momentum, epsilon=cfg.bn_epsilon, name=f"bn{i}"
            )
            x = norm(x)
        x = layers.Activation("relu", name=f"relu{i}")(x)
        if i - 1 in POOLED:
            x = _pool(x, *POOLED[i - 1], cfg.geometry)
    x = layers.Reshape((-1, cfg.filters[-1]), name=f"reshape{last}")(x)  # --> [b, t, c]
    x = _bi_lstm(cfg.hidden, "bi_lstm1")(x)
    if cfg.geometry == "torch":
        x = layers.Dense(cfg.hidden, name="projection")(x)
    x = _bi_lstm(cfg.hidden, "bi_lstm2")(x)
    logits = layers.Dense(cfg.num_classes, name="logits")(x)
    twin = _keras().Model(image, logits, name="crnn")
    _fill(twin, variables)
    return twin


def save_h5(keras_model: "keras.Model", path: str | os.PathLike[str]) -> None:
    """Writes the whole model as HDF5, which Keras 2 and 3 read.

    Raises:
        UserError: the file cannot be written, or its name does not end in .h5.
    """
    name = os.fspath(path)
    if not name.endswith((".h5", ".hdf5")):
        raise UserError(f"{name}: Keras finds the format by the name; end it in .h5")
    import h5py
    from keras.src.legacy.saving.legacy_h5_format import save_model_to_hdf5

    # What `keras_model.save` does, but in memory: libhdf5 ends the process where a disk is full.
    with h5py.File(name, "w", driver="core", backing_store=False) as image:
        save_model_to_hdf5(keras_model, image, include_optimizer=False)
        with whole_file(name, "wb") as file:
            file.write(image.id.get_file_image())


def from_keras(keras_model: "keras.Model", metadata: dict[str, Any]) -> Model:
    """The model of a twin, fine-tuned perhaps.

    Args:
        keras_model: with the layers of `build`.
        metadata: of the model that it was built from: characters and preprocessing stay.

    Returns:
        (variables, metadata), what `core.model_file.save_model` takes.

    Raises:
        UserError: a layer is missing, or of another shape.
    """
    layers = {
        layer.name: {split_path(w.path)[1]: np.asarray(w) for w in layer.weights}
        for layer in keras_model.layers
        if layer.weights
    }
    old = ModelConfig.from_metadata(metadata)
    epsilon = {n: float(keras_model.get_layer(n).epsilon) for n in NORMS if n in layers}
    network = Network(layers, old.geometry, epsilon, old.mean, old.scale)
    variables, config = assemble(network, "the Keras model")
    if config.num_classes != old.num_classes:
        raise UserError(
            f"the Keras model has {config.num_classes} classes, the metadata {old.num_classes}"
        )
    return variables, metadata | {"model": config.to_dict() | {"bn_momentum": old.bn_momentum}}


def _keras() -> Any:
    try:
        import keras
    except ImportError as error:
        raise UserError(f"Keras is needed: pip install 'crnn-jax[export]' ({error})") from error
    return keras


def _pool(x: Any, name: str, stride: int, geometry: str) -> Any:
    layers = _keras().layers
    if geometry == "torch" and stride == 1:
        # Zeros will do for the -inf that crnn.pytorch pads with: every pool follows a ReLU.
        x = layers.ZeroPadding2D(((0, 0), (1, 1)), name=f"pad{_POOL_NAMES[name][-1]}")(x)
    padding = "same" if geometry == "keras" else "valid"
    return layers.MaxPooling2D(2, (2, stride), padding, name=_POOL_NAMES[name])(x)


def _bi_lstm(hidden: int, name: str) -> Any:
    layers = _keras().layers
    return layers.Bidirectional(layers.LSTM(hidden, return_sequences=True), name=name)


def _fill(twin: Any, variables: dict[str, Any]) -> None:
    params, stats = variables["params"], variables["batch_stats"]
    for layer in twin.layers:
        if not layer.weights:
            continue
        own = params.get(layer.name, {})
        if layer.name in NORMS:
            own = {_BN[k]: v for k, v in own.items()}
            own |= {f"moving_{k}": v for k, v in _moving(stats[layer.name]).items()}
        for weight in layer.weights:
            *folder, leaf = split_path(weight.path)[1].split("/")
            value = own[folder[0]][leaf] if folder else own[leaf]
            if tuple(weight.shape) != value.shape:
                raise UserError(
                    f"{weight.path}: {list(value.shape)} in the model file, its network says "
                    f"{list(weight.shape)}"
                )
            weight.assign(value)


def _moving(stats: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"mean": stats["mean"], "variance": stats["var"]}
