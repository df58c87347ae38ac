"""Models by file and by workdir; files sound by their checksum that state what cannot be."""

import copy
import functools

import jax
import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.core.geometry import GEOMETRIES
from crnn_jax.core.model_file import flatten
from crnn_jax.models.config import VARIANTS, get_model_config
from crnn_jax.models.crnn import CRNN
from crnn_jax.reading.loaded_model import LoadedModel, expected_shapes, open_model
from crnn_jax.training.checkpoints import Checkpoints
from tests.testdata.tiny_model import tiny_metadata, tiny_variables, write_tiny_model


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("channels", [1, 3])
def test_expected_shapes_are_the_networks(name, geometry, channels):
    config = get_model_config(name, num_classes=7, channels=channels, geometry=geometry)
    init = functools.partial(CRNN(config).init, train=False)
    image = np.zeros((1, 32, 32, channels), np.uint8)
    made = jax.eval_shape(init, jax.random.key(0), image, np.array([32], np.int32))
    assert expected_shapes(config) == {k: v.shape for k, v in flatten(made).items()}


def stated(**changes):
    """What `load_model` returns, with other values; 'model.hidden' is one of the network's."""
    metadata = tiny_metadata()
    for key, value in changes.items():
        *inside, last = key.split("__")
        functools.reduce(lambda node, name: node[name], inside, metadata)[last] = value
    return tiny_variables()[0], metadata


HUGE = 10**9


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"model__hidden": HUGE}, r"bi_lstm1/forward/kernel is \[24, 64\], not"),
        ({"model__hidden": 16.0}, "model="),
        ({"model__filters": 8}, "metadata cannot be used"),
        ({"model__dtype": "complex64"}, "model.dtype="),
        ({"model__unroll": HUGE}, "model.unroll=1000000000: must be 1 to 256"),
        ({"model__mean": 0.0}, "model.mean=0.0"),
        ({"model__channels": 3}, "model.channels=3"),
        ({"model__num_classes": 12}, "12 classes and a table of 37"),
        ({"model__shape": 3}, "unknown keys"),
        ({"preprocessing__height": 48}, "preprocessing.height=48"),
        ({"temperature": 0}, "temperature=0"),
        ({"emit_unknown": "no"}, "emit_unknown='no'"),
        ({"views": 1}, "views=1: must be true or false"),
        ({"charset": ["a", "a", "<BLK>"], "blank_id": 2}, "twice"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_computed(changes, key):
    with pytest.raises(UserError, match=rf"^some\.file: .*{key}"):
        LoadedModel.of(*stated(**changes), "some.file")


def test_mean_and_scale_stand_in_one_place_and_older_files_with_two_open():
    variables, metadata = stated()
    assert not {"mean", "scale"} & set(metadata["model"])
    metadata["preprocessing"] |= {"mean": 0.0, "scale": 255.0}
    new = LoadedModel.of(variables, metadata, "some.file").config
    assert (new.mean, new.scale) == (0, 255)
    metadata["model"] |= {"mean": 0.0, "scale": 255.0}
    assert LoadedModel.of(variables, metadata, "some.file").config == new


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ("params/conv1/kernel", np.nan, "params/conv1/kernel"),
        ("batch_stats/bn3/var", -1, "batch_stats/bn3/var holds a negative variance"),
        ("params/conv2/kernel", None, "do not fit.*params/conv2/kernel is missing"),
    ],
)
def test_weights_of_another_network_or_none(path, value, key):
    variables, metadata = stated()
    variables = copy.deepcopy(variables)
    if value is None:
        del variables["params"]["conv2"]
    else:
        flatten(variables)[path].reshape(-1)[0] = value
    with pytest.raises(UserError, match=key):
        LoadedModel.of(variables, metadata, "some.file")


def test_a_workdir_opens_by_its_best_model(tmp_path):
    write_tiny_model(tmp_path / "model.safetensors", colour="red")
    assert open_model(tmp_path)[1]["colour"] == "red"


def test_a_workdir_without_its_model_file_opens_by_its_best_checkpoint(tmp_path):
    state = {**tiny_variables()[0], "ema": {}}
    Checkpoints(tmp_path / "checkpoints" / "best", keep=1).save(
        3, state, {"model": tiny_metadata(colour="green")}
    )
    variables, metadata = open_model(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, variables, tiny_variables()[0])
    assert metadata["colour"] == "green"
