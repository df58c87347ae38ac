"""A network's description may say anything: it is used, or told in one line."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.errors import UserError
from crnn_jax.importing.keras_config import describe

POOLS = [
    {"pool_size": [2, 2], "strides": [2, stride], "padding": "same"} for stride in (2, 2, 1, 1)
]


def layers(*more, **changes):
    """The layers that are looked at, as Keras describes them; `changes` are values of the norms."""
    found = [("InputLayer", {"batch_shape": [None, 32, None, 3]}), *more]
    found += [("MaxPooling2D", pool) for pool in POOLS]
    found += [("BatchNormalization", {"epsilon": 1e-3} | changes)] * 3
    return [{"class_name": kind, "config": config} for kind, config in found]


def model(inside):
    return {"class_name": "Functional", "config": {"layers": inside}}


def test_a_model_in_a_model():
    assert describe(model([model(layers())]), "x").epsilon == dict.fromkeys(
        ("bn3", "bn5", "bn7"), 1e-3
    )


def deep():
    inside = layers()
    for _ in range(2000):
        inside = [model(inside)]
    return model(inside)


@pytest.mark.parametrize(
    "config",
    [
        deep(),
        model(layers(("Rescaling", {"scale": 0, "offset": 0}))),
        model(layers(("Rescaling", {"scale": 10**400, "offset": 0}))),
        model(layers(("Rescaling", {"scale": "a", "offset": 0}))),
        model(layers(("InputLayer", {"batch_shape": [None, 32, "x", 3]}))),
        model(layers(("InputLayer", {"batch_shape": []}))),
        model(layers(epsilon=None)),
        model(layers(epsilon={})),
        model({"a": 1}),
        [],
        7,
    ],
)
def test_what_cannot_be_used_is_told(config):
    with pytest.raises(UserError, match=r"^x\.h5: its description of the network "):
        describe(config, "x.h5")


values = st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers())


@settings(max_examples=100)
@given(st.data())
def test_any_value_in_any_place_is_taken_or_told(data):
    norm = ("Rescaling", {"scale": 1 / 255, "offset": 0})
    config = json.loads(json.dumps(model(layers(norm))))
    layer = data.draw(st.sampled_from(config["config"]["layers"]))
    inside = data.draw(st.sampled_from([layer, layer["config"]]))
    inside[data.draw(st.sampled_from(sorted(inside)))] = data.draw(values)
    with contextlib.suppress(UserError):
        assert isinstance(describe(config, "x.h5").width, int)
