"""Learning-rate schedule and optimizer from a config."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, muon

from crnn_jax.core.errors import UserError

# What `config.freeze` may name, and the modules it means.
STAGES = {
    "cnn": tuple(
        name.format(i)
        for i in range(1, 8)
        for name in ("conv{}", "bn{}", "res{}a", "bn_res{}", "res{}b")
    ),
    "bi_lstm1": ("bi_lstm1", "projection"),
    "bi_lstm2": ("bi_lstm2",),
    "logits": ("logits",),
}


def frozen_modules(stages: Iterable[str]) -> tuple[str, ...]:
    """Module names of the stages that `config.freeze` lists."""
    for stage in stages:
        if stage not in STAGES:
            raise UserError(f"config.freeze: {stage!r} is not one of {sorted(STAGES)}")
    return tuple(name for stage in stages for name in STAGES[stage])


def make_schedule(config: Any, total_steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up, then the schedule that `config.optimizer` names."""
    warmup = min(config.warmup_steps, total_steps)
    rest = max(total_steps - warmup, 1)
    peak, final = config.learning_rate, config.learning_rate * config.final_fraction
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, rest, alpha=config.final_fraction)
    elif config.schedule in ("linear", "constant"):
        after = optax.linear_schedule(peak, final if config.schedule == "linear" else peak, rest)
    else:
        raise UserError(
            f"config.optimizer.schedule: {config.schedule!r} is not cosine, linear or constant"
        )
    if not warmup:
        return after
    ramp = optax.linear_schedule(peak / warmup, peak, warmup)
    return optax.join_schedules([ramp, after], [warmup])


def make_optimizer(
    config: Any, schedule: optax.Schedule, frozen: tuple[str, ...] = ()
) -> optax.GradientTransformation:
    """The optimizer; weight decay touches matrices only, frozen modules get no update.

    Args:
      config: `config.optimizer`; gradients of `gradient_accumulation_steps` batches are averaged,
        then clipped.
      schedule: learning rate by step.
      frozen: module names, see `frozen_modules`.
    """
    by_step, batches = schedule, config.gradient_accumulation_steps
    if batches > 1:  # optax counts updates, the config steps

        def schedule(updates):
            return by_step(updates * batches)

    if config.name == "adam":
        update = optax.adam(schedule, config.b1, config.b2)
    elif config.name == "adamw":
        update = optax.adamw(
            schedule,
            config.b1,
            config.b2,
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda p: jnp.ndim(p) > 1, params),
        )
    elif config.name == "muon":
        # As large as Adam's usual updates, so that the same learning rates suit.
        update = muon(
            schedule,
            adam_b1=config.b1,
            adam_b2=config.b2,
            consistent_rms=0.2,
            muon_weight_dimension_numbers=_matrices,
        )
    elif config.name == "sgd":
        update = optax.sgd(schedule, momentum=config.b1 or None)
    else:
        raise UserError(f"config.optimizer.name: {config.name!r} is not adam, adamw, muon or sgd")
    clip = (optax.clip_by_global_norm(config.clip_norm),) if config.clip_norm else ()
    chain = optax.chain(*clip, update)
    if batches > 1:
        chain = optax.MultiSteps(chain, batches).gradient_transformation()
    if not frozen:
        return chain
    parts = {"trained": chain, "frozen": optax.set_to_zero()}
    return optax.multi_transform(
        parts, lambda params: {name: "frozen" if name in frozen else "trained" for name in params}
    )


def _matrices(params: Any) -> Any:
    """What Muon makes orthogonal: kernels, as matrices of inputs and outputs; Adam has the rest."""

    def inputs(path: tuple[Any, ...], leaf: jax.Array) -> MuonDimensionNumbers | None:
        # The first and the last layer are no maps between features.
        if jnp.ndim(leaf) < 2 or path[0].key in ("conv1", "logits"):
            return None
        return MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree.map_with_path(inputs, params)
