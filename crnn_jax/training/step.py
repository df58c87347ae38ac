"""One training step as a pure function; `training/parallel.py` compiles it for the devices."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from crnn_jax.decoding.greedy import Spelling, emittable, greedy_decode, spelled
from crnn_jax.models.crnn import CRNN
from crnn_jax.models.ctc import ctc_loss, is_feasible
from crnn_jax.models.layers import global_sum
from crnn_jax.training.state import TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@dataclass(frozen=True)
class TrainStep:
    """A pure step `(state, batch) -> (state, metrics)` of two parts.

    Only the first depends on the shape of the batch. The second, compiled once for all of them, is
    a third (Adam) to a half (Muon) of what XLA needs to compile both.

    Attributes:
      differentiate: `(state, batch) -> (gradients, batch_stats, metrics)`.
      update: `(state, what differentiate gave) -> (state, metrics)`.
    """

    differentiate: Callable[[TrainState, Batch], Any]
    update: Callable[[TrainState, Any], tuple[TrainState, Metrics]]

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Both parts, one after the other."""
        return self.update(state, self.differentiate(state, batch))


def make_train_step(
    model: CRNN,
    optimizer: optax.GradientTransformation,
    *,
    blank_id: int,
    ema_decay: float = 0.0,
) -> TrainStep:
    """A pure step `(state, batch) -> (state, metrics)`.

    The loss is the sum over usable samples of all devices divided once by their number; gradients
    are summed over devices once. A step whose loss or gradient is not finite changes nothing but
    the step's number.

    Args:
      model: its `axis_name` says along what axis to sum (None under `jit`).
      optimizer: from `make_optimizer`.
      blank_id: class of the blank.
      ema_decay: of the average over steps; 0 where the state has none.

    Returns:
      The step; its metrics are sums over the global batch, see `metrics.SUMS`, and
      `gradient_norm` and bool `finite`.
    """
    axis_name = model.axis_name

    def differentiate(state: TrainState, batch: Batch) -> tuple[Any, Any, Metrics]:
        def loss_fn(params):
            (logits, lengths), updates = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                batch["image"],
                batch["width"],
                train=True,
                mutable=["batch_stats"],
            )
            feasible = is_feasible(lengths, batch["label"], batch["label_length"])
            usable = batch["mask"] & feasible
            losses = ctc_loss(
                logits, lengths, batch["label"], batch["label_length"], blank_id=blank_id
            )
            count = global_sum(jnp.sum(usable, dtype=jnp.float32), axis_name)
            total = jnp.sum(jnp.where(usable, losses, 0.0))
            sums = {
                "loss_sum": total,
                "correct": jnp.sum(_is_read(logits, lengths, batch, blank_id) & usable),
                "infeasible": jnp.sum(batch["mask"] & ~feasible),
                "pixels": jnp.asarray(batch["mask"].shape[0] * batch["image"].shape[2]),
                "pixels_real": jnp.sum(batch["width"]),
            }
            return total / jnp.maximum(count, 1.0), (updates["batch_stats"], sums, count)

        grads, (batch_stats, sums, count) = jax.grad(loss_fn, has_aux=True)(state.params)
        grads = jax.tree.map(lambda g: global_sum(g, axis_name), grads)
        metrics = {k: global_sum(v.astype(jnp.float32), axis_name) for k, v in sums.items()}
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(norm) & jnp.isfinite(metrics["loss_sum"])
        metrics |= {"count": count, "gradient_norm": norm, "finite": finite}
        return grads, batch_stats, metrics

    def update(state: TrainState, found: tuple[Any, Any, Metrics]) -> tuple[TrainState, Metrics]:
        grads, batch_stats, metrics = found
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema:
            # Young averages forget faster, or the random start would weigh for thousands of steps.
            decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
            new = {"params": params, "batch_stats": batch_stats}
            ema = jax.tree.map(lambda a, b: decay * a + (1.0 - decay) * b, ema, new)
        # Without a usable sample there is no gradient, and Adam's momentum is not to move either.
        taken = metrics["finite"] & (metrics["count"] > 0)
        after = (params, batch_stats, opt_state, ema)
        before = (state.params, state.batch_stats, state.opt_state, state.ema)
        kept = jax.tree.map(lambda a, b: jnp.where(taken, a, b), after, before)
        return TrainState(state.step + 1, *kept), metrics

    return TrainStep(differentiate, update)


def make_eval_step(
    model: CRNN, *, blank_id: int, unknown_id: int = -1, spelling: Spelling | None = None
) -> Callable[[dict, Batch], dict[str, jax.Array]]:
    """A pure function `(variables, batch) -> per-sample results`; never reads `unknown_id`.

    Returns:
      `ids` int32 [b, t] and `id_lengths` int32 [b], the greedy reading; `log_prob` float32 [b], of
      that reading; `loss` float32 [b], of the label, NaN where it fits no alignment.
    """

    def eval_step(variables: dict, batch: Batch) -> dict[str, jax.Array]:
        logits, lengths = model.apply(variables, batch["image"], batch["width"], train=False)
        logits = emittable(logits, unknown_id=unknown_id)
        read = spelled(logits, lengths, spelling) if spelling else logits
        ids, id_lengths = greedy_decode(read, lengths, blank_id=blank_id)
        label = batch["label"], batch["label_length"]
        loss = ctc_loss(logits, lengths, *label, blank_id=blank_id)
        # a label that cannot be used is empty here
        told = is_feasible(lengths, *label) & (batch["label_length"] > 0)
        return {
            "ids": ids,
            "id_lengths": id_lengths,
            "log_prob": -ctc_loss(read, lengths, ids, id_lengths, blank_id=blank_id),
            "loss": jnp.where(told, loss, jnp.nan),
        }

    return eval_step


def _is_read(logits, lengths, batch, blank_id):
    """bool [b]: whether the greedy reading is the label."""
    ids, id_lengths = greedy_decode(logits, lengths, blank_id=blank_id)
    size = min(ids.shape[1], batch["label"].shape[1])  # holds both if they are equally long
    behind = jnp.arange(size)[None, :] >= batch["label_length"][:, None]
    same = (ids[:, :size] == batch["label"][:, :size]) | behind
    return (id_lengths == batch["label_length"]) & same.all(axis=1)
