"""A bidirectional LSTM whose padded frames do nothing, with its weight gradient outside the loop.

Automatic differentiation of a scan adds up the recurrent weight's gradient step by step, a small
matrix product and a sum each time. Written by hand it is one product over all frames and samples.
Gates, cell and gradients are float32 whatever is multiplied: bfloat16 would lose small updates.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from crnn_jax.models import native

# Added to nothing, put in place of a padded frame's gate inputs: all sigmoids become exactly 0, so
# cell and output are 0 there, and the backward direction reaches the real end with a fresh state.
CLOSED = -1e4


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def lstm_scan(
    z: jax.Array, recurrent: jax.Array, unroll: int = 1, dtype: str = "float32"
) -> jax.Array:
    """Runs an LSTM over time.

    Args:
      z: float32 [t, b, 4 h], the input's share of the gates i, f, g, o, bias included.
      recurrent: float32 [h, 4 h].
      unroll: steps in one turn of the loop.
      dtype: in which outputs and recurrent weights are multiplied; sums are float32.

    Returns:
      outputs float32 [t, b, h].
    """
    return _forward(z, recurrent, unroll, dtype)[0]


def _multiply(a, b, dtype):
    return jnp.matmul(a.astype(dtype), b.astype(dtype), preferred_element_type=jnp.float32)


def _forward(z, recurrent, unroll, dtype):
    zero = jnp.zeros_like(z[0, :, : recurrent.shape[0]])

    def step(carry, z_t):
        h, c = carry
        i, f, g, o = jnp.split(z_t + _multiply(h, recurrent, dtype), 4, axis=-1)
        i, f, g, o = nn.sigmoid(i), nn.sigmoid(f), jnp.tanh(g), nn.sigmoid(o)
        c = f * c + i * g
        h = o * jnp.tanh(c)
        return (h, c), (h, c, jnp.concatenate([i, f, g, o], -1))

    _, (hs, cs, gates) = lax.scan(step, (zero, zero), z, unroll=unroll)
    return hs, (hs, cs, gates, recurrent)


def _backward(unroll, dtype, saved, d_hs):
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
        return (_multiply(d_z, recurrent.T, dtype), d_c * f), d_z

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


class LSTMParameters(nn.Module):
    """The weights of one direction, laid out as Keras's: gates i, f, g, o, one bias."""

    hidden: int

    @nn.compact
    def __call__(self, size: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Of an input of `size`: kernel [size, 4 h], recurrent kernel [h, 4 h], bias [4 h]."""
        gates = 4 * self.hidden
        return (
            self.param("kernel", nn.initializers.glorot_uniform(), (size, gates)),
            self.param("recurrent_kernel", _orthogonal_gates, (self.hidden, gates)),
            self.param("bias", _bias_init, (gates,)),
        )


class BiLSTM(nn.Module):
    """Forward and backward LSTM, outputs side by side.

    Attributes:
      hidden: units of one direction.
      unroll: steps in one turn of XLA's loop.
      use_native: whether `models.native` runs it, or XLA.
    """

    hidden: int
    unroll: int = 1
    use_native: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, lengths: jax.Array) -> jax.Array:
        """x [t, b, d] and real frames int32 [b] -> [t, b, 2 hidden], 0 behind them."""
        if self.has_variable("packed", "kernels"):
            kernel, recurrent, bias = self.get_variable("packed", "kernels")
            hs = native.packed_lstm(x.astype(jnp.float32), kernel, recurrent, bias, lengths)
            return hs.astype(x.dtype)
        forward = LSTMParameters(self.hidden, name="forward")(x.shape[-1])
        backward = LSTMParameters(self.hidden, name="backward")(x.shape[-1])
        kernel = jnp.concatenate([forward[0], backward[0]], 1)
        bias = jnp.concatenate([forward[2], backward[2]])
        recurrent = jnp.stack([forward[1], backward[1]])
        run = partial(_bi_lstm, unroll=self.unroll, dtype=x.dtype.name)
        if not self.use_native or self.hidden % native.LSTM_UNITS:
            return run(x, kernel, recurrent, bias, lengths).astype(x.dtype)
        if self.is_mutable_collection("packed") and not self.is_initializing():
            self.put_variable("packed", "kernels", (*native.pack_lstm(kernel, recurrent), bias))
        return native.lstm(run, x, kernel, recurrent, bias, lengths).astype(x.dtype)


def _bi_lstm(x, kernel, recurrent, bias, lengths, *, unroll, dtype):
    """Both directions by XLA; arguments and result as `native.lstm`, multiplied in `dtype`."""
    z = _multiply(x, kernel, dtype) + bias[None, None, :]  # --> [t, b, 8 h]
    mask = jnp.arange(x.shape[0], dtype=jnp.int32)[:, None] < lengths[None, :]  # --> [t, b]
    z = jnp.where(mask[..., None], z, CLOSED)
    forward, backward = jnp.split(z, 2, axis=-1)
    forward = lstm_scan(forward, recurrent[0], unroll, dtype)
    backward = jnp.flip(lstm_scan(jnp.flip(backward, 0), recurrent[1], unroll, dtype), 0)
    return jnp.concatenate([forward, backward], -1)
