"""Weights of CRNN.tf2 and crnn.pytorch, in every format: the logits are the source's own."""

import json

import numpy as np
import pytest

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.importing.foreign import import_weights
from crnn_jax.reading.recognizer import Recognizer
from tests.testdata.foreign_networks import (
    ALPHABET,
    WIDTHS,
    keras2_config,
    keras_net,
    pictures,
    torch_net,
    write_keras2_h5,
    write_keras2_saved_model,
)

pytestmark = [
    # Keras's own, under NumPy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # But for `imported`, which all others are compared with.
    pytest.mark.usefixtures("in_this_process"),
]


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


def _write(keras, kind, net, folder):
    path = folder / kind
    if kind == "keras2.h5":
        write_keras2_h5(net, path, keras2_config(net))
    elif kind == "keras2_weights.h5":
        write_keras2_h5(net, path)
    elif kind == "keras2_saved_model":
        write_keras2_saved_model(net, path)
    elif kind == "keras3_saved_model":
        net.export(path, verbose=False)
    elif kind.endswith(".weights.h5"):
        net.save_weights(path)
    else:
        net.save(path)
    return path


@pytest.mark.parametrize("width", WIDTHS)
def test_keras_logits(source, imported, width):
    images = pictures(width, 3)
    levels = images.astype(np.float32)
    scaled = any(layer.name.startswith("rescaling") for layer in source.layers)
    theirs = np.asarray(source(levels if scaled else levels / 255))
    assert np.ptp(theirs, axis=1).max() > 1
    ours = Recognizer(imported.variables, imported.metadata).logits(images)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(
    "kind",
    [
        "keras2.h5",
        "keras2_weights.h5",
        "keras2_saved_model",
        "keras3.weights.h5",
        "keras3.keras",
        "keras3_saved_model",
    ],
)
def test_every_format_of_keras_holds_the_same(keras, source, imported, kind, tmp_path):
    again = import_weights(_write(keras, kind, source, tmp_path), alphabet=ALPHABET)
    np.testing.assert_equal(again.variables, imported.variables)
    assert again.metadata["model"] == imported.metadata["model"]
    assert len(again.used) == len(source.weights)
    # Keras 3's graphs hold the state of random numbers, which nothing draws from.
    assert [name for name in again.unused if "seed" not in name] == []


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="makes the files to import")


@pytest.fixture(scope="module")
def torch_source(torch):
    return torch_net()


def _torch_logits(torch, net, images):
    x = torch.from_numpy((images.astype(np.float32) / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)
    with torch.no_grad():
        return net(x).permute(1, 0, 2).numpy()


@pytest.mark.parametrize("kind", ["zip.pth", "legacy.pth", "module.pth", "x.safetensors"])
def test_torch_logits(torch, torch_source, kind, tmp_path):
    state = torch_source.state_dict()
    if kind == "module.pth":  # as DataParallel names them, in a checkpoint
        state = {f"module.{key}": value for key, value in state.items()}
        torch.save({"epoch": 3, "loss": 0.5, "model": state, "args": ["a", None]}, tmp_path / kind)
    elif kind == "x.safetensors":
        from safetensors.torch import save_file

        save_file(state, tmp_path / kind)
    else:
        torch.save(state, tmp_path / kind, _use_new_zipfile_serialization=kind == "zip.pth")
    imported = import_weights(tmp_path / kind, alphabet=ALPHABET)
    assert len(imported.used) == len(state) - len(imported.unused)
    assert all(name.endswith("num_batches_tracked") for name in imported.unused)
    recognizer = Recognizer(imported.variables, imported.metadata)
    for width in WIDTHS if kind == "zip.pth" else WIDTHS[1:2]:
        images = pictures(width, 1)
        theirs = _torch_logits(torch, torch_source, images)
        assert np.ptp(theirs, axis=1).max() > 1
        np.testing.assert_allclose(recognizer.logits(images), theirs, atol=1e-4)


def test_pictures_are_prepared_as_the_source_does(imported, torch, torch_source, tmp_path):
    prepared = imported.metadata["preprocessing"]
    assert (prepared["channels"], prepared["width"]) == (3, 0)
    assert (prepared["mean"], prepared["scale"]) == (0, 255)
    assert (prepared["rounding"], prepared["antialias"]) == ("floor", False)
    torch.save(torch_source.state_dict(), tmp_path / "crnn.pth")
    prepared = import_weights(tmp_path / "crnn.pth", alphabet=ALPHABET).metadata["preprocessing"]
    assert (prepared["channels"], prepared["width"]) == (1, 100)
    assert (prepared["mean"], prepared["scale"]) == (127.5, 127.5)
    assert prepared["antialias"]


def test_width_of_the_input(keras, tmp_path):
    keras_net(width=100).save(tmp_path / "fixed.h5")
    whole = import_weights(tmp_path / "fixed.h5", alphabet=ALPHABET)
    assert whole.metadata["preprocessing"]["width"] == 100
    free = import_weights(tmp_path / "fixed.h5", alphabet=ALPHABET, width=0)
    assert free.metadata["preprocessing"]["width"] == 0


def test_the_blank_is_where_the_source_has_it(imported, torch, torch_source, tmp_path):
    assert imported.metadata["blank_id"] == 36
    path = tmp_path / "crnn.pth"
    torch.save(torch_source.state_dict(), path)
    assert import_weights(path, alphabet=ALPHABET).metadata["blank_id"] == 0
    Charset.from_characters(ALPHABET).write(tmp_path / "last.txt")
    with pytest.raises(UserError, match=r"last\.txt: the blank is class 36"):
        import_weights(path, table=tmp_path / "last.txt")


@pytest.mark.parametrize(
    ("alphabet", "folded"), [(ALPHABET, True), (ALPHABET.upper(), True), ("aB", False)]
)
def test_case_is_folded_where_the_characters_have_one(keras, alphabet, folded, tmp_path):
    alphabet = alphabet + "".join(map(chr, range(0x4E00, 0x4E00 + 36 - len(alphabet))))
    write_keras2_h5(keras_net(), tmp_path / "x.h5")
    assert import_weights(tmp_path / "x.h5", alphabet=alphabet).metadata["ignore_case"] == folded
    told = import_weights(tmp_path / "x.h5", alphabet=alphabet, ignore_case=not folded)
    assert told.metadata["ignore_case"] != folded


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
        ("Conv2D", {"activation": "elu"}, "activation elu"),
        ("InputLayer", {"batch_input_shape": [None, 48, None, 3]}, "height 48"),
        ("InputLayer", {"batch_input_shape": 7}, "description"),
    ],
)
def test_a_network_that_computes_something_else_is_refused(keras, kind, changes, said, tmp_path):
    net = keras_net()
    write_keras2_h5(net, tmp_path / "other.h5", _change(keras2_config(net), kind, **changes))
    with pytest.raises(UserError, match=rf"other\.h5: .*{said}"):
        import_weights(tmp_path / "other.h5", alphabet=ALPHABET)


def test_epsilons_of_the_source(keras, tmp_path):
    net = keras_net()
    epsilons = iter((1e-3, 1e-2, 2e-3))
    config = keras2_config(net)
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "BatchNormalization":
            layer["config"]["epsilon"] = next(epsilons)
    for layer, epsilon in zip(("bn3", "bn5", "bn7"), (1e-3, 1e-2, 2e-3), strict=True):
        net.get_layer(layer).epsilon = epsilon
    write_keras2_h5(net, tmp_path / "x.h5", config)
    imported = import_weights(tmp_path / "x.h5", alphabet=ALPHABET)
    images = pictures(64, 3)
    theirs = np.asarray(net(images.astype(np.float32) / 255))
    ours = Recognizer(imported.variables, imported.metadata).logits(images)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_shapes_that_do_not_fit_are_refused(torch, torch_source, tmp_path):
    for key, said in (
        ("cnn.conv3.weight", "conv4/bias has shape"),
        ("rnn.0.rnn.weight_hh_l0_reverse", "bi_lstm1/backward/recurrent_kernel"),
        ("rnn.1.embedding.bias", "logits/bias"),
    ):
        state = torch_source.state_dict()
        state[key] = state[key][:-1].clone()
        torch.save(state, tmp_path / "x.pth")
        with pytest.raises(UserError, match=said):
            import_weights(tmp_path / "x.pth", alphabet=ALPHABET)
        del state[key]
        torch.save(state, tmp_path / "x.pth")
        with pytest.raises(UserError, match=r"has no|no layer|is missing"):
            import_weights(tmp_path / "x.pth", alphabet=ALPHABET)
    state = torch_source.state_dict()
    state["cnn.conv0.bias"][3] = float("nan")
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(UserError, match="conv1/bias holds numbers that are not finite"):
        import_weights(tmp_path / "x.pth", alphabet=ALPHABET)
