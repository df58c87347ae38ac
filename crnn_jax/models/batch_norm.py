"""Batch norm that counts real columns of real samples only, over the whole global batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from crnn_jax.models.masking import column_mask, global_sum


class MaskedBatchNorm(nn.Module):
    """Normalises each channel by moments over the unmasked positions.

    The moments are sums over all devices divided once, so that the number of devices changes
    nothing. (flax's own masked form averages each device's mean with equal weight.) A batch without
    a real sample leaves the running statistics as they are.
    """

    momentum: float
    epsilon: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, width: jax.Array, *, train: bool) -> jax.Array:
        """x [b, h, w, c], width int32 [b] -> the same shape and dtype; columns past width unset."""
        c = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (c,))
        bias = self.param("bias", nn.initializers.zeros, (c,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (c,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (c,))
        if train:
            mean, var, count = self._moments(x.astype(jnp.float32), width)
            if not self.is_initializing():
                keep = jnp.where(count > 0, self.momentum, 1.0)
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                running_var.value = keep * running_var.value + (1 - keep) * var
        else:
            mean, var = running_mean.value, running_var.value
        gain = scale * jax.lax.rsqrt(var + self.epsilon)
        return (x * _row(gain) + _row(bias - mean * gain)).astype(x.dtype)

    def _moments(self, x, width):
        mask = column_mask(x.shape[2], width)[:, None, :, None]  # --> [b, 1, w, 1]
        count = global_sum(jnp.sum(mask, dtype=jnp.float32) * x.shape[1], self.axis_name)
        safe = jnp.maximum(count, 1.0)
        mean = global_sum(jnp.sum(jnp.where(mask, x, 0), (0, 1, 2)), self.axis_name) / safe
        centred = jnp.where(mask, x - _row(mean), 0)
        var = global_sum(jnp.sum(centred * centred, (0, 1, 2)), self.axis_name) / safe
        return mean, var, count


def _row(x: jax.Array) -> jax.Array:
    """[c] -> [1, 1, 1, c], since a rank is never raised in silence here."""
    return x[None, None, None, :]
