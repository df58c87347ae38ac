"""A bidirectional LSTM whose padded frames do nothing, with its weight gradient outside the loop.

Automatic differentiation of a scan adds up the recurrent weight's gradient step by step, a small
matrix product and a sum each time. Written by hand it is one product over all frames and samples.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

# Added to nothing, put in place of a padded frame's gate inputs: all sigmoids become exactly 0, so
# cell and output are 0 there, and the backward direction reaches the real end with a fresh state.
CLOSED = -1e4


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def lstm_scan(z: jax.Array, recurrent: jax.Array, unroll: int = 1) -> jax.Array:
    """Runs an LSTM over time.

    Args:
      z: [t, b, 4 h], the input's share of the gates i, f, g, o, bias included.
      recurrent: [h, 4 h].
      unroll: steps in one turn of the loop.

    Returns:
      outputs [t, b, h].
    """
    return _forward(z, recurrent, unroll)[0]


def _forward(z, recurrent, unroll):
    zero = jnp.zeros_like(z[0, :, : recurrent.shape[0]])

    def step(carry, z_t):
        h, c = carry
        i, f, g, o = jnp.split(z_t + h @ recurrent, 4, axis=-1)
        i, f, g, o = nn.sigmoid(i), nn.sigmoid(f), jnp.tanh(g), nn.sigmoid(o)
        c = f * c + i * g
        h = o * jnp.tanh(c)
        return (h, c), (h, c, jnp.concatenate([i, f, g, o], -1))

    _, (hs, cs, gates) = lax.scan(step, (zero, zero), z, unroll=unroll)
    return hs, (hs, cs, gates, recurrent)


def _backward(unroll, saved, d_hs):
    hs, cs, gates, recurrent = saved
    zero = jnp.zeros_like(cs[:1])
    c_before = jnp.concatenate([zero, cs[:-1]])
    h_before = jnp.concatenate([zero, hs[:-1]])

    def step(carry, at_t):
        d_h, d_c = carry
        d_out, c, c_prev, gates_t = at_t
        i, f, g, o = jnp.split(gates_t, 4, axis=-1)
        tanh_c = jnp.tanh(c)
        d_h = d_h + d_out
        d_c = d_c + d_h * o * (1 - tanh_c * tanh_c)
        d_z = jnp.concatenate(
            [
                d_c * g * i * (1 - i),
                d_c * c_prev * f * (1 - f),
                d_c * i * (1 - g * g),
                d_h * tanh_c * o * (1 - o),
            ],
            -1,
        )
        return (d_z @ recurrent.T, d_c * f), d_z

    _, d_z = lax.scan(
        step, (zero[0], zero[0]), (d_hs, cs, c_before, gates), reverse=True, unroll=unroll
    )
    return d_z, jnp.einsum("tbh,tbk->hk", h_before, d_z)


lstm_scan.defvjp(_forward, _backward)


def _orthogonal_gates(key, shape, dtype=jnp.float32):
    """An orthogonal [h, h] matrix for each gate, side by side."""
    hidden = shape[0]
    one = nn.initializers.orthogonal()
    return jnp.concatenate([one(k, (hidden, hidden), dtype) for k in jax.random.split(key, 4)], 1)


def _bias_init(_, shape, dtype=jnp.float32):
    """Zeros, ones for the forget gate: an untrained cell remembers."""
    hidden = shape[0] // 4
    return jnp.zeros(shape, dtype).at[hidden : 2 * hidden].set(1)


class LSTM(nn.Module):
    """One direction. Parameters are laid out as Keras's: gates i, f, g, o, one bias."""

    hidden: int
    reverse: bool = False
    unroll: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """x [t, b, d] and mask bool [t, b] -> [t, b, hidden], 0 where the mask is False."""
        kernel = self.param(
            "kernel", nn.initializers.glorot_uniform(), (x.shape[-1], 4 * self.hidden)
        )
        recurrent = self.param(
            "recurrent_kernel", _orthogonal_gates, (self.hidden, 4 * self.hidden)
        )
        bias = self.param("bias", _bias_init, (4 * self.hidden,))
        kernel, recurrent, bias = (p.astype(x.dtype) for p in (kernel, recurrent, bias))
        z = x @ kernel + bias[None, None, :]  # --> [t, b, 4 h]
        z = jnp.where(mask[..., None], z, jnp.asarray(CLOSED, z.dtype))
        if self.reverse:
            z = jnp.flip(z, 0)
        hs = lstm_scan(z, recurrent, self.unroll)
        return jnp.flip(hs, 0) if self.reverse else hs


class BiLSTM(nn.Module):
    """Forward and backward LSTM, outputs side by side."""

    hidden: int
    unroll: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """x [t, b, d] and mask bool [t, b] -> [t, b, 2 hidden]."""
        forward = LSTM(self.hidden, unroll=self.unroll, name="forward")(x, mask)
        backward = LSTM(self.hidden, reverse=True, unroll=self.unroll, name="backward")(x, mask)
        return jnp.concatenate([forward, backward], -1)
