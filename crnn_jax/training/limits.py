"""What numbers of a config can mean: a run is refused before it starts, not after a day."""

import math
from typing import Any

from crnn_jax.core.errors import UserError

# key -> (least, most)
LIMITS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(
        (
            "batch_size",
            "synthetic.count",
            "evaluation.batch_size",
            "checkpoint.every_steps",
            "checkpoint.keep",
            "log.every_steps",
            "model.unroll",
        ),
        (1, math.inf),
    ),
    **dict.fromkeys(
        (
            "epochs",
            "steps",
            "least_steps",
            "data.replay",
            "data.workers",
            "optimizer.learning_rate",
            "optimizer.warmup_steps",
            "optimizer.final_fraction",
            "optimizer.weight_decay",
            "optimizer.clip_norm",
            "optimizer.max_not_finite",
            "evaluation.every_steps",
            "evaluation.patience",
            "log.pictures",
        ),
        (0, math.inf),
    ),
    **dict.fromkeys(("model.bn_momentum", "optimizer.b1", "optimizer.b2", "optimizer.ema"), (0, 1)),
}


def require_limits(config: Any) -> None:
    """Looks at every number of a config that has limits.

    Raises:
      UserError: one of them is outside, or is not finite.
    """
    for key, (least, most) in LIMITS.items():
        value = config
        for part in key.split("."):
            value = getattr(value, part)
        if not (math.isfinite(value) and least <= value <= most):
            told = f"from {least} to {most}" if most < math.inf else f"at least {least}"
            raise UserError(f"config.{key}={value}: want a number, {told}")
