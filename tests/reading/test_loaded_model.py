"""Models by file and by workdir; files sound by their checksum that state what cannot be."""

import contextlib
import copy
import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.errors import UserError
from crnn_jax.core.model_file import flatten
from crnn_jax.models.config import VARIANTS, get_model_config
from crnn_jax.models.crnn import CRNN
from crnn_jax.reading.loaded_model import ModelSpec, expected_shapes, open_model
from crnn_jax.training.checkpoints import Checkpoints
from tests.testdata.tiny_model import tiny_metadata, tiny_variables, write_tiny_model


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("geometry", ["keras", "torch"])
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
    ("changes", "told"),
    [
        ({"model__hidden": HUGE}, r"bi_lstm1/forward/kernel has shape \[24, 64\], not"),
        ({"model__hidden": 16.0}, "sizes whole numbers"),
        ({"model__hidden": -16}, "sizes whole numbers"),
        ({"model__filters": [8, 12, 16, 16, 24, 24, HUGE]}, "conv7/kernel has shape"),
        ({"model__filters": [8]}, "7 convolutions"),
        ({"model__filters": [8] * 100_000}, "7 convolutions"),
        ({"model__filters": 8}, "metadata cannot be used"),
        ({"model__geometry": "round"}, "model.geometry='round'"),
        ({"model__geometry": ["keras"]}, "model.geometry"),
        ({"model__dtype": "complex64"}, "model.dtype='complex64'"),
        ({"model__unroll": HUGE}, "model.unroll=1000000000: must be 1 to 256"),
        ({"model__mean": 0.0}, "model.mean=0.0: the preprocessing's is 127.5"),
        ({"model__mean": float("nan")}, "model.mean=nan"),
        ({"model__scale": "255"}, "model.scale='255'"),
        ({"preprocessing__scale": 0}, "preprocessing.scale=0"),
        ({"model__bn_epsilon": 1e999}, "model.bn_epsilon=inf"),
        ({"model__channels": 3}, "model.channels=3: must be the pictures' 1"),
        ({"preprocessing__height": 48}, "preprocessing.height=48: must be 32"),
        ({"preprocessing__height": HUGE}, "preprocessing.height=1000000000: must be 1 to 1,024"),
        ({"preprocessing__width": HUGE}, "preprocessing.width=1000000000: must be 0"),
        ({"preprocessing__max_width": HUGE}, "preprocessing.max_width=1000000000"),
        ({"preprocessing__height": "32"}, "preprocessing.height='32': must be of type int"),
        ({"preprocessing__antialias": 1}, "preprocessing.antialias=1: must be of type bool"),
        ({"preprocessing__scale": float("inf")}, "preprocessing.scale=inf"),
        ({"temperature": 0}, "temperature=0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"temperature": True}, "temperature=True"),
        ({"emit_unknown": "no"}, "emit_unknown='no'"),
        ({"charset": "abc"}, "charset is a str"),
        ({"charset": [1, "<BLK>"]}, "no string"),
        ({"charset": ["\ud800", "<BLK>"], "blank_id": 1}, "not one character"),
        ({"blank_id": "36"}, "blank_id is a str"),
        ({"blank_id": HUGE}, "class 1000000000 is not the blank"),
        ({"ignore_case": 1}, "ignore_case is a int"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_computed(changes, told):
    with pytest.raises(UserError, match=rf"^some\.file: .*{told}"):
        ModelSpec.of(*stated(**changes), "some.file")


def test_mean_and_scale_stand_in_one_place_and_older_files_with_two_open():
    variables, metadata = stated()
    assert not {"mean", "scale"} & set(metadata["model"])
    metadata["preprocessing"] |= {"mean": 0.0, "scale": 255.0}
    new = ModelSpec.of(variables, metadata, "some.file").config
    assert (new.mean, new.scale) == (0, 255)
    metadata["model"] |= {"mean": 0.0, "scale": 255.0}
    assert ModelSpec.of(variables, metadata, "some.file").config == new


def test_a_table_of_a_million_characters_for_a_network_of_37():
    symbols = [chr(c) for c in range(0x10FFFF) if not 0xD800 <= c < 0xE000]
    with pytest.raises(UserError, match="37 classes and a table of 1112064"):
        ModelSpec.of(*stated(charset=[*symbols, "<BLK>"], blank_id=len(symbols)), "some.file")
    with pytest.raises(UserError, match="stands twice"):
        ModelSpec.of(*stated(charset=[*symbols, *symbols, "<BLK>"], blank_id=2 * len(symbols)), "x")


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("params/conv1/kernel", np.nan, "params/conv1/kernel holds numbers that are not finite"),
        ("batch_stats/bn3/var", np.inf, "batch_stats/bn3/var holds numbers that are not finite"),
        ("batch_stats/bn3/var", -1, "batch_stats/bn3/var holds a negative variance"),
    ],
)
def test_weights_that_are_no_numbers(path, value, told):
    variables, metadata = stated()
    variables = copy.deepcopy(variables)
    flatten(variables)[path].reshape(-1)[0] = value
    with pytest.raises(UserError, match=told):
        ModelSpec.of(variables, metadata, "some.file")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@settings(max_examples=100)
@given(st.data())
def test_any_value_in_any_place_is_taken_or_told(data):
    _, metadata = stated()
    inside = data.draw(st.sampled_from([metadata, metadata["model"], metadata["preprocessing"]]))
    inside[data.draw(st.sampled_from(sorted(inside)))] = data.draw(JSON)
    with contextlib.suppress(UserError):
        made = ModelSpec.of(tiny_variables()[0], metadata, "some.file")
        assert made.preprocessing.target_width(48, 100) <= 1 << 16


def test_a_folder_that_is_no_workdir_is_told(tmp_path):
    with pytest.raises(UserError, match="a folder without checkpoints"):
        open_model(tmp_path)


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
