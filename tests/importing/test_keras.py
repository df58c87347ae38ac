"""CRNN.tf2's weights in HDF5 files: the logits are the source's own."""

import json

import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.exporting.keras import to_keras
from crnn_jax.importing.import_weights import import_weights
from crnn_jax.importing.keras import read_h5
from crnn_jax.reading.recognizer import Recognizer
from tests.testdata.foreign_networks import (
    ALPHABET,
    WIDTHS,
    keras2_config,
    keras_net,
    our_model,
    pictures,
    write_keras2_h5,
)

# Keras's own, under NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
h5py = pytest.importorskip("h5py", reason="makes the files to read")
KERNEL = np.random.default_rng(0).normal(size=(3, 3, 1, 8)).astype(np.float32)
NAME = "conv1/kernel:0"


@pytest.fixture(scope="module")
def keras():
    return pytest.importorskip("keras", reason="makes the files to import")


@pytest.fixture(scope="module", params=["named", "numbered"])
def source(request, keras):
    """CRNN.tf2's network as it is, or as old versions made it: no names, biases everywhere."""
    named = request.param == "named"
    keras.backend.clear_session()
    # Keras counts on within a process: these are conv2d_7 to conv2d_13, which the alphabet puts
    # in another order.
    keras_net(named=named)
    return keras_net(named=named, bias=not named, rescale=not named)


@pytest.fixture(scope="module")
def imported(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "crnn.h5"
    source.save(path)
    return import_weights(path, alphabet=ALPHABET)


def small(path, put=lambda group: group.create_dataset(NAME, data=KERNEL)):
    """A file of one layer, whose weight `put` puts in."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"relu1", b"conv1"]
        file.create_group("relu1").attrs["weight_names"] = np.zeros(0)
        group = file.create_group("conv1")
        group.attrs["weight_names"] = [NAME.encode()]
        put(group)
    return path


@pytest.mark.parametrize("width", WIDTHS[1:3])
def test_logits(source, imported, width):
    images = pictures(width, 3)
    levels = images.astype(np.float32)
    scaled = any(layer.name.startswith("rescaling") for layer in source.layers)
    theirs = np.asarray(source(levels if scaled else levels / 255))
    assert np.ptp(theirs, axis=1).max() > 1
    ours = Recognizer(imported.variables, imported.metadata).logits(images)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("kind", ["keras2.h5", "keras2_weights.h5", "keras3.weights.h5"])
def test_every_layout_holds_the_same(source, imported, kind, tmp_path):
    path = tmp_path / kind
    if kind == "keras3.weights.h5":
        source.save_weights(path)
    else:
        config = keras2_config(source) if kind == "keras2.h5" else None
        write_keras2_h5(source, path, config)
    again = import_weights(path, alphabet=ALPHABET)
    np.testing.assert_equal(again.variables, imported.variables)
    assert again.metadata["model"] == imported.metadata["model"]
    assert len(again.network.used) == len(source.weights)
    assert again.network.unused == []


def test_epsilons_of_the_source(keras, tmp_path):
    net = keras_net()
    config = keras2_config(net)
    epsilons = {"bn3": 1e-3, "bn5": 1e-2, "bn7": 2e-3}
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "BatchNormalization":
            layer["config"]["epsilon"] = epsilons[layer["config"]["name"]]
    for name, epsilon in epsilons.items():
        net.get_layer(name).epsilon = epsilon
    write_keras2_h5(net, tmp_path / "x.h5", config)
    imported = import_weights(tmp_path / "x.h5", alphabet=ALPHABET)
    images = pictures(64, 3)
    theirs = np.asarray(net(images.astype(np.float32) / 255))
    ours = Recognizer(imported.variables, imported.metadata).logits(images)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_residual_pairs_of_our_own_come_back(keras, tmp_path):
    model = our_model(residual=(4, 6))
    net = to_keras(model)
    for config in (None, keras2_config(net)):
        write_keras2_h5(net, tmp_path / "x.h5", config)
        imported = import_weights(tmp_path / "x.h5", alphabet=ALPHABET)
        np.testing.assert_equal(imported.variables, model[0])
        assert imported.network.unused == []
    assert imported.metadata["model"] == model[1]["model"]


def _change(config, kind, **changes):
    config = json.loads(json.dumps(config))
    for layer in config["config"]["layers"]:
        if layer["class_name"] == kind:
            inner = layer["config"].get("layer", layer)
            inner["config"].update(changes)
    return config


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("MaxPooling2D", {"pool_size": [2, 1]}, "pools"),
        ("Bidirectional", {"recurrent_activation": "hard_sigmoid"}, "hard_sigmoid"),
        ("Conv2D", {"activation": "elu"}, "activations.*elu"),
        ("InputLayer", {"batch_input_shape": [None, 48, None, 3]}, "height.*48"),
    ],
)
def test_a_network_that_computes_something_else_is_refused(keras, kind, changes, said, tmp_path):
    net = keras_net()
    write_keras2_h5(net, tmp_path / "other.h5", _change(keras2_config(net), kind, **changes))
    with pytest.raises(UserError, match=rf"other\.h5: .*{said}"):
        import_weights(tmp_path / "other.h5", alphabet=ALPHABET)


def _twice(group):
    group.attrs["weight_names"] = [b"a/conv1/kernel", b"b/conv1/kernel"]
    group["a/conv1/kernel"] = group["b/conv1/kernel"] = KERNEL


@pytest.mark.parametrize(
    ("put", "said"),
    [
        (lambda g: g.create_dataset(NAME, data=KERNEL), "1 of kind convolution where a CRNN has 7"),
        (_twice, "b/conv1/kernel is a second kernel of layer conv1"),
        (lambda g: None, "damaged or cut short"),
        (lambda g: g.file.attrs.__delitem__("layer_names"), "an HDF5 file without Keras's layers"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, put, said):
    with pytest.raises(UserError, match=rf"x\.h5: {said}"):
        read_h5(small(tmp_path / "x.h5", put))
