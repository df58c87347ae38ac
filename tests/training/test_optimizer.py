"""Schedules and optimizers do what the config says."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import tiny
from crnn_jax.training.optimizer import make_optimizer, make_schedule


def _config(**changes):
    config = tiny.get_config().optimizer
    config.update({"learning_rate": 0.1, "clip_norm": 0.0} | changes)
    return config


def test_cosine_is_crnn_tf2s_decay():
    schedule = make_schedule(_config(), 100)
    wanted = [0.1 * 0.5 * (1 + np.cos(np.pi * s / 100)) for s in (0, 25, 50, 100)]
    np.testing.assert_allclose([schedule(s) for s in (0, 25, 50, 100)], wanted, atol=1e-7)


@pytest.mark.parametrize(("name", "end"), [("cosine", 0.02), ("linear", 0.02), ("constant", 0.1)])
def test_warm_up_then_to_the_final_fraction(name, end):
    schedule = make_schedule(_config(schedule=name, warmup_steps=10, final_fraction=0.2), 50)
    assert 0 < schedule(0) < schedule(5) < schedule(10) == pytest.approx(0.1)
    assert schedule(50) == pytest.approx(end, abs=1e-6)


def _update(optimizer, gradient):
    params = {"logits": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones((2,))}}
    grads = {"logits": {"kernel": jnp.full((2, 2), gradient), "bias": jnp.full((2,), gradient)}}
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    return updates["logits"]


def test_gradients_are_cut_to_the_global_norm():
    optimizer = make_optimizer(_config(name="sgd", b1=0.0, clip_norm=1.0), lambda _: 0.5)
    updates = _update(optimizer, 100.0)
    assert optax.tree.norm(updates) == pytest.approx(0.5, rel=1e-5)
    assert optax.tree.norm(_update(optimizer, 0.1)) == pytest.approx(0.05 * 6**0.5, rel=1e-5)


def test_weight_decay_touches_matrices_only():
    updates = _update(make_optimizer(_config(name="adamw", weight_decay=0.5), lambda _: 0.1), 0.0)
    np.testing.assert_allclose(updates["kernel"], -0.05)
    np.testing.assert_allclose(updates["bias"], 0)


def test_muon_makes_kernels_orthogonal_but_the_first_and_the_last():
    rng = np.random.default_rng(0)
    shapes = {"conv1": (3, 3, 1, 4), "conv2": (3, 3, 4, 8), "logits": (8, 5)}
    # One direction is much longer than the others: Adam's update follows it.
    grads = {name: {"kernel": 3 + rng.normal(size=shape)} for name, shape in shapes.items()}
    grads["conv2"]["bias"] = rng.normal(size=8)
    grads = jax.tree.map(jnp.float32, grads)
    for name in ("muon", "adam"):
        optimizer = make_optimizer(_config(name=name), lambda _: 0.1)
        updates, _ = optimizer.update(grads, optimizer.init(grads), grads)
        singular = np.linalg.svd(np.reshape(updates["conv2"]["kernel"], (36, 8)), compute_uv=False)
        assert (singular.max() < 2 * singular.min()) == (name == "muon")
        # The rest is Adam's: its first step is as large everywhere.
        for leaf in (
            updates["conv1"]["kernel"],
            updates["conv2"]["bias"],
            updates["logits"]["kernel"],
        ):
            np.testing.assert_allclose(np.abs(leaf), np.abs(leaf).max(), rtol=1e-3)


def test_gradients_of_several_batches_make_one_update():
    config = _config(
        name="sgd", b1=0.0, learning_rate=1.0, schedule="linear", gradient_accumulation_steps=2
    )
    optimizer = make_optimizer(config, make_schedule(config, 8))
    params = {"logits": {"bias": jnp.ones((2,))}}
    state = optimizer.init(params)
    taken = []
    for gradient in (1.0, 3.0, 2.0, 6.0):
        grads = {"logits": {"bias": jnp.full((2,), gradient)}}
        updates, state = optimizer.update(grads, state, params)
        taken.append(float(updates["logits"]["bias"][0]))
    # The second update comes at step 2 of 8, where the rate has fallen to three quarters.
    np.testing.assert_allclose(taken, [0.0, -2.0, 0.0, -0.75 * 4.0], atol=1e-6)
