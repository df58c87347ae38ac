"""One training step: invariants 5 (any number of devices) and what a bad batch may not do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from crnn_jax.models.config import get_model_config
from crnn_jax.models.crnn import CRNN
from crnn_jax.models.ctc import ctc_loss
from crnn_jax.training.parallel import Parallel
from crnn_jax.training.state import create_state, init_variables
from crnn_jax.training.step import make_eval_step, make_train_step

CONFIG = get_model_config("crnn_tiny", num_classes=11)
BLANK = 10
SGD, ADAM = optax.sgd(1e-2), optax.adam(1e-2)


@functools.cache
def fresh():
    return init_variables(CRNN(CONFIG), 0)


def _batch(seed=0, b=16):
    """Unequal widths, label lengths and empty rows, unevenly over the devices."""
    rng = np.random.default_rng(seed)
    width = rng.integers(20, 65, b).astype(np.int32)
    mask = np.arange(b) % 8 != 5
    mask[:3] = False  # all of the first device's samples are missing
    return {
        "image": rng.integers(0, 256, (b, 32, 64, 1), dtype=np.uint8),
        "width": np.where(mask, width, 0).astype(np.int32),
        "label": rng.integers(0, 10, (b, 4)).astype(np.int32),
        "label_length": rng.integers(0, 4, b).astype(np.int32),
        "mask": mask,
    }


@functools.cache
def _compiled(mode, devices, optimizer):
    parallel = Parallel(mode, jax.devices()[:devices])
    model = CRNN(CONFIG, parallel.axis_name)
    step = make_train_step(model, optimizer, blank_id=BLANK, ema_decay=0.5)
    return parallel, parallel.train_step(step)


def _run(mode, devices, batch, *, optimizer=SGD, variables=None):
    parallel, step = _compiled(mode, devices, optimizer)
    state = parallel.replicate(create_state(variables or fresh(), optimizer, ema=True))
    state, metrics = step(state, parallel.shard(batch))
    return jax.device_get(state), jax.device_get(metrics)


@pytest.fixture(scope="module")
def one_device():
    return _run("jit", 1, _batch())


@pytest.mark.parametrize(
    ("mode", "devices"),
    [("jit", 8), ("pmap", 2), pytest.param("pmap", 8, marks=pytest.mark.slow)],
)
def test_number_of_devices_changes_nothing(mode, devices, one_device):
    state, metrics = _run(mode, devices, _batch())
    wanted_state, wanted = one_device
    np.testing.assert_allclose(metrics["loss_sum"], wanted["loss_sum"], rtol=1e-6)
    np.testing.assert_allclose(metrics["gradient_norm"], wanted["gradient_norm"], rtol=1e-5)
    for name in ("count", "infeasible", "pixels", "pixels_real"):
        assert metrics[name] == wanted[name], name
    # One plain SGD step: the parameters differ by 1e-2 times the gradients' difference.
    bound = 1e-2 * 1e-5 * wanted["gradient_norm"] + 1e-7
    for name in ("params", "batch_stats", "ema"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=bound, rtol=1e-6),
            getattr(state, name),
            getattr(wanted_state, name),
        )


def test_the_update_is_traced_once_for_all_shapes():
    traced = []

    def update(grads, state, params=None):
        traced.append(params)
        return SGD.update(grads, state, params)

    parallel, step = _compiled("jit", 1, optax.GradientTransformation(SGD.init, update))
    state = parallel.replicate(create_state(fresh(), SGD, ema=True))
    for b in (16, 8, 16):
        state, _ = step(state, parallel.shard(_batch(b=b)))
    assert int(state.step) == 3
    assert len(traced) == 1


def test_loss_is_a_mean_over_usable_samples(one_device):
    batch = _batch()
    batch["label"][6] = 1
    batch["label_length"][6] = 4
    batch["width"][6] = 20  # 4 frames, 7 needed
    _, metrics = _run("jit", 1, batch)
    assert metrics["infeasible"] == 1
    assert metrics["count"] == one_device[1]["count"] - 1 == batch["mask"].sum() - 1
    alone = {k: v.copy() for k, v in batch.items()}
    alone["mask"][6] = False  # still normalises the batch, counts nothing
    _, without = _run("jit", 1, alone)
    np.testing.assert_allclose(metrics["loss_sum"], without["loss_sum"], rtol=1e-6)
    (logits, lengths), _ = CRNN(CONFIG).apply(
        fresh(), batch["image"], batch["width"], train=True, mutable=["batch_stats"]
    )
    losses = ctc_loss(logits, lengths, batch["label"], batch["label_length"], blank_id=BLANK)
    np.testing.assert_allclose(without["loss_sum"], losses[alone["mask"]].sum(), rtol=1e-4)


@pytest.mark.parametrize("fault", ["masked", "not finite"])
def test_bad_batch_changes_nothing_but_the_step_number(fault):
    batch, variables = _batch(), fresh()
    if fault == "masked":
        batch = batch | {"mask": np.zeros(16, bool), "width": np.zeros(16, np.int32)}
    else:
        variables = jax.tree.map(lambda a: a, fresh())
        variables["params"]["logits"]["bias"] = jnp.full((11,), jnp.nan)
    state, metrics = _run("jit", 1, batch, optimizer=ADAM, variables=variables)
    before = create_state(variables, ADAM, ema=True)
    assert state.step == 1
    assert bool(metrics["finite"]) == (fault == "masked")
    jax.tree.map(np.testing.assert_array_equal, state.replace(step=before.step), before)


def test_average_of_weights_moves_part_of_the_way(one_device):
    state, _ = one_device
    before, after = fresh()["params"]["logits"]["bias"], state.params["logits"]["bias"]
    # The first step's decay is (1 + 0) / (10 + 0), not 0.5.
    np.testing.assert_allclose(
        state.ema["params"]["logits"]["bias"], 0.1 * before + 0.9 * after, atol=1e-7
    )


def test_a_label_that_fits_no_alignment_has_no_loss():
    batch = _batch() | {"label": np.tile([1, 1, 1, 1], (16, 1)).astype(np.int32)}
    batch["width"][:], batch["width"][4:] = 20, 64
    batch["label_length"][:] = [4, 0, 1, 4, 4, 0, *[2] * 10]
    loss = make_eval_step(CRNN(CONFIG), blank_id=BLANK)(fresh(), batch)["loss"]
    assert np.isnan(loss).tolist()[:6] == [True, True, False, True, False, True]
    assert not np.isnan(loss[6:]).any()


def test_evaluation_reads_without_the_unknown_class():
    batch = {k: jnp.asarray(v) for k, v in _batch().items()}
    variables = jax.tree.map(lambda a: a, fresh())
    variables["params"]["logits"]["bias"] = variables["params"]["logits"]["bias"].at[3].set(50)
    found = make_eval_step(CRNN(CONFIG), blank_id=BLANK)(variables, batch)
    assert np.all(np.asarray(found["ids"])[np.asarray(batch["width"]) > 20, 0] == 3)
    found = make_eval_step(CRNN(CONFIG), blank_id=BLANK, unknown_id=3)(variables, batch)
    assert not np.any(np.asarray(found["ids"]) == 3)
