"""What a training run changes from step to step, and nothing else."""

import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from crnn_jax.models.crnn import CRNN

Variables = dict[str, Any]


@flax.struct.dataclass
class TrainState:
    """Everything a checkpoint holds.

    Attributes:
      step: int32, batches seen, those of skipped steps included.
      params, batch_stats: the network's variables.
      opt_state: optax's.
      ema: {'params', 'batch_stats'} averaged over steps; {} where averaging is off.
    """

    step: jax.Array
    params: Variables
    batch_stats: Variables
    opt_state: optax.OptState
    ema: Variables

    @property
    def variables(self) -> Variables:
        """What evaluation reads with: the average where there is one."""
        return self.ema or {"params": self.params, "batch_stats": self.batch_stats}


def init_variables(model: CRNN, seed: int) -> Variables:
    """Fresh variables of a model, a pure function of the seed."""
    # Optimising this program takes ten times as long as running it once.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    init = jax.jit(functools.partial(traced_init, model), compiler_options=options)
    return init(jax.random.fold_in(jax.random.key(seed), 0))


def traced_init(model: CRNN, key: jax.Array) -> Variables:
    """The same of a key, to be traced: for shapes, `jax.eval_shape`."""
    image = jnp.zeros((1, 32, 32, model.config.channels), jnp.uint8)
    return model.init(key, image, jnp.full((1,), 32, jnp.int32), train=False)


def create_state(
    variables: Variables, optimizer: optax.GradientTransformation, *, ema: bool
) -> TrainState:
    """The state before step 0. It copies: the step donates its input's buffers."""
    variables = jax.tree.map(jnp.array, variables)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(variables["params"]),
        ema=jax.tree.map(jnp.array, variables) if ema else {},
    )
