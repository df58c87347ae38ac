"""Padding is never seen: zeroing right of the real width, and sums over the whole global batch."""

import jax
import jax.numpy as jnp
from jax import lax


def global_sum(x: jax.Array, axis_name: str | None) -> jax.Array:
    """Sums `x` over all devices: the only place that names an axis.

    Under `jit` with sharded arrays a plain `jnp.sum` is already global and `axis_name` is None;
    under `pmap` each device holds its own part and `axis_name` says along what to add.
    """
    return x if axis_name is None else lax.psum(x, axis_name)


def column_mask(size: int, width: jax.Array) -> jax.Array:
    """bool [b, size]: which of the columns are real, given `width` int32 [b]."""
    return jnp.arange(size, dtype=jnp.int32)[None, :] < width[:, None]


def zero_padding(x: jax.Array, width: jax.Array) -> jax.Array:
    """`x` [b, h, w, c] with every column at or right of `width` [b] set to 0."""
    return jnp.where(column_mask(x.shape[2], width)[:, None, :, None], x, jnp.zeros((), x.dtype))
