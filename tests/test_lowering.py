"""Every config's training step, evaluation step and decoders lower for GPUs and TPUs, on a CPU.

Lowering is what can fail for a platform before a device is needed: an operation it lacks, a dtype.
"""

import functools
import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from crnn_jax.models.config import get_model_config
from crnn_jax.models.crnn import CRNN
from crnn_jax.training.experiment import DEFAULT_NETWORK
from crnn_jax.training.optimizer import make_optimizer, make_schedule
from crnn_jax.training.state import create_state, traced_init
from crnn_jax.training.step import make_eval_step, make_train_step

PLATFORMS = ("cuda", "tpu")
CONFIGS = sorted(p.stem for p in (Path(__file__).resolve().parents[1] / "configs").glob("*.py"))
CLASSES = 37


def struct(shape, dtype):
    return jax.ShapeDtypeStruct(shape, dtype)


def lower(function, *arguments):
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=PLATFORMS)


@pytest.mark.parametrize("name", CONFIGS)
def test_steps(name):
    dtype = "bfloat16" if name in ("mjsynth", "tiny") else "float32"
    config = importlib.import_module(f"configs.{name}").get_config()
    options = {"dtype": dtype, "bn_momentum": config.model.bn_momentum}
    channels = config.preprocessing.channels or 1
    name = config.model.name or DEFAULT_NETWORK
    model = CRNN(get_model_config(name, num_classes=CLASSES, channels=channels, **options))
    optimizer = make_optimizer(config.optimizer, make_schedule(config.optimizer, 1000))
    variables = jax.eval_shape(functools.partial(traced_init, model), jax.random.key(0))
    ema = config.optimizer.ema_decay
    state = jax.eval_shape(lambda v: create_state(v, optimizer, ema=bool(ema)), variables)
    b, n = config.batch_size, 16
    width = max(config.preprocessing.width, 0) or config.preprocessing.max_width or 256
    batch = {
        "image": struct((b, config.preprocessing.height, width, channels), jnp.uint8),
        "width": struct((b,), jnp.int32),
        "label": struct((b, n), jnp.int32),
        "label_length": struct((b,), jnp.int32),
        "mask": struct((b,), bool),
    }
    step = make_train_step(model, optimizer, blank_id=CLASSES - 1, ema_decay=ema)
    after, _ = jax.eval_shape(step, state, batch)
    # What goes out must be able to come in again, or the second step compiles anew.
    assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(
        lambda a: (a.shape, a.dtype), state
    )
    lower(step, state, batch)
    lower(make_eval_step(model, blank_id=CLASSES - 1), variables, batch)
