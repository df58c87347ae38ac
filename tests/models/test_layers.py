"""Pooling, LSTM and batch norm against plain references; sizes of the named networks."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.models.config import VARIANTS, ModelConfig, get_model_config
from crnn_jax.models.crnn import CRNN
from crnn_jax.models.layers import MaskedBatchNorm, max_pool, pool_of
from crnn_jax.models.lstm import BiLSTM, lstm_scan
from crnn_jax.training.state import traced_init

# Trained parameters and batch statistics: grey pictures, 36 characters and the blank.
SIZES = {
    "crnn": 8_721_445,
    "crnn_small": 2_187_813,
    "crnn_residual": 3_664_293,
    "crnn_fine": 1_536_837,
    "crnn_tiny": 28_969,
}


def _size(config):
    shapes = jax.eval_shape(partial(traced_init, CRNN(config)), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_number_of_parameters(name):
    assert _size(get_model_config(name, num_classes=37)) == SIZES[name]


def test_model_config_survives_a_round_trip_and_names_what_it_does_not_know():
    normal = {"mean": 0.0, "scale": 255.0}
    config = get_model_config("crnn_residual", num_classes=7, geometry="torch", **normal)
    assert config.name == "crnn_residual"
    fine = get_model_config("crnn_fine", num_classes=7)
    assert (fine.name, fine.geometry) == ("crnn_fine", "fine")
    assert get_model_config("crnn_fine", num_classes=7, geometry="keras").name != "crnn_fine"
    image = Preprocessing(mean=0.0, scale=255.0).to_metadata()
    metadata = {"model": config.to_dict(), "preprocessing": image}
    assert ModelConfig.from_metadata(metadata) == config
    with pytest.raises(UserError, match="crnn_huge"):
        get_model_config("crnn_huge", num_classes=7)
    with pytest.raises(UserError, match="colour"):
        ModelConfig.from_metadata({**metadata, "model": {"num_classes": 7, "colour": 1}})


@pytest.mark.parametrize("width", [7, 8])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("geometry", ["keras", "torch"])
def test_pool_equals_reduce_window(width, stride, geometry):
    x = nn.relu(np.random.default_rng(0).normal(size=(2, 4, width, 3)).astype(np.float32))
    if geometry == "keras":
        padding = "SAME"
    else:
        padding = [(0, 0), (0, 0), (0, 0) if stride == 2 else (1, 1), (0, 0)]
    wanted = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, stride, 1), padding)
    np.testing.assert_array_equal(max_pool(x, pool_of(width, stride, geometry)), wanted)


def _plain_lstm(z, recurrent):
    """The recurrence as the textbook has it, differentiated by JAX."""
    h = c = jnp.zeros_like(z[0, :, : recurrent.shape[0]])
    outputs = []
    for z_t in z:
        i, f, g, o = jnp.split(z_t + h @ recurrent, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        outputs.append(h)
    return jnp.stack(outputs)


def test_lstm_and_its_hand_written_gradient():
    rng = np.random.default_rng(0)
    z = jnp.asarray(rng.normal(size=(6, 3, 20)), jnp.float32)
    recurrent = jnp.asarray(rng.normal(size=(5, 20)) / 2, jnp.float32)
    np.testing.assert_allclose(lstm_scan(z, recurrent), _plain_lstm(z, recurrent), atol=1e-6)
    mine = jax.grad(lambda *a: jnp.sum(jnp.sin(lstm_scan(*a))), argnums=(0, 1))(z, recurrent)
    plain = jax.grad(lambda *a: jnp.sum(jnp.sin(_plain_lstm(*a))), argnums=(0, 1))(z, recurrent)
    for a, b in zip(mine, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_lstm_starts_at_the_real_end_and_is_zero_behind_it():
    x = np.random.default_rng(0).normal(size=(7, 2, 4)).astype(np.float32)
    lstm = BiLSTM(5)
    variables = lstm.init(jax.random.key(0), x, np.array([7, 4]))
    padded = lstm.apply(variables, x, np.array([7, 4]))
    short = lstm.apply(variables, x[:4, 1:], np.array([4]))
    np.testing.assert_allclose(padded[:4, 1], short[:, 0], atol=1e-6)
    assert np.all(np.asarray(padded[4:, 1]) == 0)


def test_an_untrained_lstm_remembers():
    variables = BiLSTM(4).init(jax.random.key(0), jnp.zeros((2, 1, 3)), np.array([2]))
    gates = variables["params"]["forward"]["bias"].reshape(4, 4)
    np.testing.assert_array_equal(gates.mean(1), [0, 1, 0, 0])


def test_lstm_keeps_small_updates_of_its_cell_in_bfloat16():
    # Input and forget gate open, each step adds tanh(0.01): bfloat16 cannot tell 2 from 2.01.
    steps = 300
    z = jnp.broadcast_to(jnp.array([20.0, 20.0, 0.01, 20.0]), (steps, 1, 4))
    low = lstm_scan(z, jnp.zeros((1, 4)), 1, "bfloat16")
    np.testing.assert_allclose(low[-1], np.tanh(steps * np.tanh(0.01)), atol=1e-4)


def test_batch_norm_against_numpy():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (2, 3, 5, 4)).astype(np.float32)
    width = np.array([5, 2], np.int32)
    norm = MaskedBatchNorm(4, momentum=0.9, epsilon=1e-3)
    variables = norm.init(jax.random.key(0), x, width)
    y, updates = norm.apply(variables, x, width, mutable="batch_stats")
    real = np.concatenate([x[0].reshape(-1, 4), x[1, :, :2].reshape(-1, 4)])
    mean, var = real.mean(0), real.var(0)  # biased, as Keras's running variance
    expected = np.maximum((x - mean) / np.sqrt(var + 1e-3), 0)
    np.testing.assert_allclose(y[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(y[1, :, :2], expected[1, :, :2], atol=1e-5)
    assert np.all(np.asarray(y[1, :, 2:]) == 0)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], 0.1 * mean, atol=1e-6)
    np.testing.assert_allclose(updates["batch_stats"]["var"], 0.9 + 0.1 * var, atol=1e-5)
